package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// ErrUnknownFeature: the catalog has no feature of this name.
var ErrUnknownFeature = jobs.Sentinel("unknown_feature", "unknown feature")

// FeatureType is the type of a feature's values.
type FeatureType string

// The types of features.
const (
	FeatureBoolean FeatureType = "boolean"
	FeatureNumber  FeatureType = "number"
	FeatureString  FeatureType = "string"
)

// Feature is a feature that tenants can have: a switch, a number or a text. A tenant has
// its own value, else its plan's, else the default.
type Feature struct {
	Name      string          `json:"name"` // [a-z][a-z0-9_-]{0,62}
	Type      FeatureType     `json:"type"`
	Default   json.RawMessage `json:"default"`   // nil: the feature is absent where neither tenant nor plan has a value
	Note      string          `json:"note"`      // for people, up to 200 characters
	Kinds     []string        `json:"kinds"`     // what a tenant may have jobs of only where the feature is true
	Schedules []string        `json:"schedules"` // which schedules it has only there, by their names
	Plans     int             `json:"plans"`     // how many plans have a value of their own
	Tenants   int             `json:"tenants"`   // how many tenants have a value of their own
}

// Features are the features that the catalog knows. It is safe for concurrent use.
type Features struct{ c *Catalog }

// Features returns the catalog's features.
func (c *Catalog) Features() Features { return Features{c} }

var featureName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// FeatureChange says what a feature is to be; what is nil stays, or is not given yet.
type FeatureChange struct {
	Type    FeatureType // "" stays; a new feature must have one
	Default *string     // as values are given, see TenantChange; "" of another type than string means none
	Note    *string
}

// Set adds a feature or changes one. Its type changes only while nothing has a value of it.
// Errors are a *jobs.InputError or match ErrReferred.
func (f Features) Set(ctx context.Context, name string, change FeatureChange) (Feature, error) {
	return f.set(ctx, f.c.pool, name, change)
}

// SetTx is Set in the caller's transaction.
func (f Features) SetTx(ctx context.Context, tx pgx.Tx, name string, change FeatureChange) (Feature, error) {
	return f.set(ctx, tx, name, change)
}

const featureSetSQL = `
INSERT INTO headgate.features (name, type, default_value, note)
VALUES ($1, $2, $3, coalesce($4, ''))
ON CONFLICT (name) DO UPDATE
SET type = excluded.type, default_value = CASE WHEN $5 THEN excluded.default_value ELSE headgate.features.default_value END, note = coalesce($4, headgate.features.note)`

const featureTypeSQL = `SELECT type, default_value IS NOT NULL FROM headgate.features WHERE name = $1 FOR UPDATE`

func (f Features) set(ctx context.Context, db beginner, name string, change FeatureChange) (Feature, error) {
	feature, err := within(ctx, db, func(tx pgx.Tx) (Feature, error) {
		if err := change.check(name); err != nil {
			return Feature{}, err
		}
		var now FeatureType
		var has bool
		err := tx.QueryRow(ctx, featureTypeSQL, name).Scan(&now, &has)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		if err != nil {
			return Feature{}, err
		}
		kind := change.Type
		if kind == "" {
			kind = now
		}
		if kind == "" {
			return Feature{}, jobs.Inputf("type", "", "feature %s is new: say whether it is a boolean, a number or a string", name)
		}
		var value json.RawMessage
		given := change.Default != nil
		switch {
		case given && (*change.Default != "" || kind == FeatureString):
			if value, err = kind.Parse("feature "+name, *change.Default); err != nil {
				return Feature{}, err
			}
		case !given && has && kind != now:
			return Feature{}, jobs.Inputf("type", string(kind), "the default of %s is a %s: give another with the type", name, now)
		}
		if _, err := tx.Exec(ctx, featureSetSQL, name, kind, value, change.Note, given); err != nil {
			return Feature{}, featureConflict(err, name)
		}
		return feature(ctx, tx, name)
	})
	if err != nil {
		return Feature{}, fmt.Errorf("set feature %s: %w", shown(name), err)
	}
	f.c.memory.dropAll()
	return feature, nil
}

func (ch FeatureChange) check(name string) error {
	switch {
	case !featureName.MatchString(name):
		return jobs.Inputf("feature", name, "it must match [a-z][a-z0-9_-]{0,62}")
	case ch.Type != "" && ch.Type != FeatureBoolean && ch.Type != FeatureNumber && ch.Type != FeatureString:
		return jobs.Inputf("type", string(ch.Type), "give boolean, number or string")
	case ch.Note != nil:
		return jobs.CheckText("note", *ch.Note, maxText)
	}
	return nil
}

// numberForm is a number of JSON whose exponent has two digits at most.
var numberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?0*[0-9]{1,2})?$`)

// A number has a bounded magnitude, because Postgres stores all digits of 1e99999.
const (
	maxNumberText        = 40 // characters
	minNumber, maxNumber = 1e-40, 1e40
)

func isFeatureNumber(text string) bool {
	if len(text) > maxNumberText || !numberForm.MatchString(text) {
		return false
	}
	n, err := strconv.ParseFloat(text, 64)
	return err == nil && (n == 0 || math.Abs(n) >= minNumber && math.Abs(n) <= maxNumber)
}

// Parse reads a value of the type as people write it. Errors are a *jobs.InputError of the
// field.
func (t FeatureType) Parse(field, text string) (json.RawMessage, error) {
	switch t {
	case FeatureBoolean:
		switch strings.ToLower(text) {
		case "true", "on", "yes":
			return json.RawMessage("true"), nil
		case "false", "off", "no":
			return json.RawMessage("false"), nil
		}
		return nil, jobs.Inputf(field, text, "it is a switch: give true or false")
	case FeatureNumber:
		if !isFeatureNumber(text) {
			return nil, jobs.Inputf(field, text, "it is a number: give one as 12 or 0.5, of up to %d characters, and 0 or from %g to %g without its sign", maxNumberText, minNumber, maxNumber)
		}
		return json.RawMessage(text), nil
	}
	if err := jobs.CheckValue(field, text, maxText); err != nil {
		return nil, err
	}
	value, err := json.Marshal(text)
	return value, err
}

const featureTypesSQL = `SELECT name, type FROM headgate.features WHERE name = ANY ($1) FOR KEY SHARE`

// parseFeatures reads values by their features' types, which stay until the transaction
// ends.
func parseFeatures(ctx context.Context, tx pgx.Tx, texts map[string]string) (json.RawMessage, error) {
	if len(texts) == 0 {
		return rawObject(nil), nil
	}
	names := slices.Sorted(maps.Keys(texts))
	rows, err := tx.Query(ctx, featureTypesSQL, names)
	if err != nil {
		return nil, err
	}
	types := map[string]FeatureType{}
	var name string
	var kind FeatureType
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error { types[name] = kind; return nil }); err != nil {
		return nil, err
	}
	values := map[string]json.RawMessage{}
	for _, name := range names {
		kind, known := types[name]
		if !known {
			return nil, fmt.Errorf("%w %s: `headgate feature list` shows them, `headgate feature set %s --type boolean` makes one", ErrUnknownFeature, shown(name), jobs.ShellWord(name))
		}
		if values[name], err = kind.Parse("feature "+name, texts[name]); err != nil {
			return nil, err
		}
	}
	return rawObject(values), nil
}

const featureColumns = `
SELECT f.name, f.type, f.default_value, f.note,
       ARRAY(SELECT g.kind FROM headgate.feature_gates g WHERE g.feature = f.name AND g.kind <> '' ORDER BY 1),
       ARRAY(SELECT g.schedule FROM headgate.feature_gates g WHERE g.feature = f.name AND g.schedule <> '' ORDER BY 1),
       (SELECT count(*) FROM headgate.plans p WHERE p.features ? f.name),
       (SELECT count(*) FROM headgate.tenants t WHERE t.features ? f.name AND t.status <> 'removed')
FROM headgate.features f
`

const featuresSQL = featureColumns + `WHERE f.name > $1 ORDER BY f.name LIMIT $2`

const featureSQL = featureColumns + `WHERE f.name = $1`

func feature(ctx context.Context, db querier, name string) (Feature, error) {
	rows, _ := db.Query(ctx, featureSQL, name) // its error is CollectExactlyOneRow's too
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Feature])
	if errors.Is(err, pgx.ErrNoRows) {
		err = unknownFeature(name)
	}
	return found, err
}

func unknownFeature(name string) error {
	return fmt.Errorf("%w %s: `headgate feature list` shows them", ErrUnknownFeature, shown(name))
}

// List returns features by name, 200 or up to 10,000 a page, and the After of the next page
// ("" if nothing follows). It reads all tenants to count those with values of their own.
func (f Features) List(ctx context.Context, page jobs.Page) (features []Feature, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list features: %w", err)
	}
	rows, _ := f.c.pool.Query(ctx, featuresSQL, page.After, limit+1) // its error is CollectRows' too
	if features, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Feature]); err != nil {
		return nil, "", fmt.Errorf("list features: %w", err)
	}
	features, next = jobs.CutPage(features, limit, func(f Feature) string { return f.Name })
	return features, next, nil
}

// FeatureReach is how many tenants follow what is changed of a feature. Removed tenants do not
// count.
type FeatureReach struct {
	ByDefault int // go by the default: neither they nor their plans have a value
	Off       int // have not the value true: to them a Gate of the feature is shut
}

const featureReachSQL = `
SELECT count(*) FILTER (WHERE NOT (t.features ? f.name OR p.features ? f.name)),
       count(*) FILTER (WHERE coalesce(t.features->f.name, p.features->f.name, f.default_value) IS DISTINCT FROM 'true')
FROM headgate.features f CROSS JOIN headgate.tenants t JOIN headgate.plans p ON p.name = t.plan
WHERE f.name = $1 AND t.status <> 'removed'`

const holdFeatureSQL = `SELECT FROM headgate.features WHERE name = $1 FOR NO KEY UPDATE`

// GetTx returns a feature, and whom its changes reach, as the caller's transaction sees them.
// Nobody else changes the feature before the transaction ends; values of tenants change. It
// reads all tenants. Errors match ErrUnknownFeature.
func (f Features) GetTx(ctx context.Context, tx pgx.Tx, name string) (Feature, FeatureReach, error) {
	var reach FeatureReach
	var found Feature
	_, err := tx.Exec(ctx, holdFeatureSQL, name)
	if err == nil {
		found, err = feature(ctx, tx, name)
	}
	if err == nil {
		err = tx.QueryRow(ctx, featureReachSQL, name).Scan(&reach.ByDefault, &reach.Off)
	}
	if err != nil {
		return Feature{}, reach, fmt.Errorf("get feature %s: %w", shown(name), err)
	}
	return found, reach, nil
}

// Remove takes a feature out of the catalog that nothing has a value of or needs. Errors
// match ErrUnknownFeature and ErrReferred.
func (f Features) Remove(ctx context.Context, name string) error {
	return f.remove(ctx, f.c.pool, name)
}

// RemoveTx is Remove in the caller's transaction.
func (f Features) RemoveTx(ctx context.Context, tx pgx.Tx, name string) error {
	return f.remove(ctx, tx, name)
}

const featureDeleteSQL = `DELETE FROM headgate.features WHERE name = $1`

func (f Features) remove(ctx context.Context, db beginner, name string) error {
	_, err := within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		if _, err := feature(ctx, tx, name); err != nil {
			return none, err
		}
		tag, err := tx.Exec(ctx, featureDeleteSQL, name)
		if err == nil && tag.RowsAffected() == 0 { // somebody else has removed it meanwhile
			return none, unknownFeature(name)
		}
		return none, featureConflict(err, name)
	})
	if err != nil {
		return fmt.Errorf("remove feature %s: %w", shown(name), err)
	}
	f.c.memory.dropAll()
	return nil
}

// featureConflict says what a feature is used by that is to go or to change its type.
func featureConflict(err error, name string) error {
	switch constraint, detail := constraintOf(err); constraint {
	case "features_unused":
		return inUsef(err, "tenants or plans have values of it (%s): take these out first, with `headgate tenant feature … %s-` and `headgate plan set … --feature %s-`", detail, jobs.ShellWord(name), jobs.ShellWord(name))
	case "feature_gates_feature_fkey":
		return inUsef(err, "a kind or a schedule needs it: `headgate feature list` shows which, `headgate feature release %s` frees it", jobs.ShellWord(name))
	case "features_check": // the default is of another type
		return jobs.Inputf("type", "", "the default of %s is of another type: give another default with the type", name)
	}
	return err
}

// Gate is what a tenant may do only where a feature of it is true: one of the two.
type Gate struct {
	Kind     string // have jobs of this kind
	Schedule string // have a schedule of this name fire
}

func (g Gate) check() error {
	switch {
	case (g.Kind == "") == (g.Schedule == ""):
		return jobs.Inputf("gate", "", "give a kind or the name of a schedule")
	case g.Kind != "":
		return jobs.AsInputError("kind", jobs.CheckKind(g.Kind))
	}
	return checkName("schedule", g.Schedule)
}

// Require lets tenants use a kind or a schedule only where the feature, a switch, is true for
// them; doing it again changes nothing. Errors match ErrUnknownFeature or are a
// *jobs.InputError.
func (f Features) Require(ctx context.Context, name string, gate Gate) (Feature, error) {
	return f.gate(ctx, f.c.pool, name, gate, gateInsertSQL)
}

// RequireTx is Require in the caller's transaction.
func (f Features) RequireTx(ctx context.Context, tx pgx.Tx, name string, gate Gate) (Feature, error) {
	return f.gate(ctx, tx, name, gate, gateInsertSQL)
}

// Release ends what Require has begun.
func (f Features) Release(ctx context.Context, name string, gate Gate) (Feature, error) {
	return f.gate(ctx, f.c.pool, name, gate, gateDeleteSQL)
}

// ReleaseTx is Release in the caller's transaction.
func (f Features) ReleaseTx(ctx context.Context, tx pgx.Tx, name string, gate Gate) (Feature, error) {
	return f.gate(ctx, tx, name, gate, gateDeleteSQL)
}

const gateInsertSQL = `INSERT INTO headgate.feature_gates (feature, kind, schedule) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`

const gateDeleteSQL = `DELETE FROM headgate.feature_gates WHERE feature = $1 AND kind = $2 AND schedule = $3`

func (f Features) gate(ctx context.Context, db beginner, name string, gate Gate, sql string) (Feature, error) {
	changed, err := within(ctx, db, func(tx pgx.Tx) (Feature, error) {
		if err := gate.check(); err != nil {
			return Feature{}, err
		}
		found, err := feature(ctx, tx, name)
		if err != nil {
			return Feature{}, err
		}
		if found.Type != FeatureBoolean {
			return Feature{}, jobs.Inputf("feature", name, "it is a %s: only a switch, of type boolean, can be required", found.Type)
		}
		if _, err := tx.Exec(ctx, sql, name, gate.Kind, gate.Schedule); err != nil {
			return Feature{}, err
		}
		return feature(ctx, tx, name)
	})
	if err != nil {
		return Feature{}, fmt.Errorf("require feature %s: %w", shown(name), err)
	}
	return changed, nil
}
