package catalog

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Intent is a database that is being made, or made ready, on its server. It is a row of
// the central database from before the first statement on the server until the database
// is in the catalog, or until everything is removed again.
type Intent struct {
	ID      string    `json:"id"` // the database's in the catalog later
	Name    string    `json:"name"`
	Server  string    `json:"server"` // the server's name
	DBName  string    `json:"dbname"`
	Kind    string    `json:"kind"`
	Creates bool      `json:"creates"` // the database too; false: one that exists is adopted
	Job     string    `json:"job"`     // the role of its job login
	Owner   string    `json:"owner"`   // the role that owns schema headgate
	App     string    `json:"app"`     // the role that owns the database and what the application makes; "" unless Creates
	Step    string    `json:"step"`    // the last that was begun
	Error   string    `json:"error"`   // of the last run, if it failed
	Actor   string    `json:"actor"`   // who began
	BegunAt time.Time `json:"begun_at"`
}

// Roles are the roles that the intent makes.
func (i Intent) Roles() []string {
	if i.Creates {
		return []string{i.App, i.Owner, i.Job}
	}
	return []string{i.Owner, i.Job}
}

// Next is how an intent that was left goes on, or is removed.
func (i Intent) Next() string {
	if i.Creates {
		return fmt.Sprintf("`headgate database create %s` goes on, and with --abandon removes it again; --app-url-file FILE keeps the application's address, if nobody has that yet", i.Name)
	}
	return fmt.Sprintf("`headgate database adopt %s` goes on, and with --abandon removes it again", i.Name)
}

// IntentParams describe a new intent.
type IntentParams struct {
	Name    string // [a-z][a-z0-9-]{0,53}; its roles are NAME_job, NAME_headgate and NAME_app
	Server  string // the name of its server
	DBName  string // "" means Name
	Kind    string // KindShared or KindDedicated
	Creates bool
	Actor   string // who begins, for the record
}

// Passwords are those of an intent's logins. App is zero unless the intent creates.
type Passwords struct{ Job, Owner, App address.Secret }

// ErrNoIntent: no database of that name is being made.
var ErrNoIntent = jobs.Sentinel("no_intent", "no database of that name is being made or adopted")

// intentName leaves room for the longest suffix of a role's name.
var intentName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,53}$`)

// Draft returns the intent that params describe, with the names that it will use, without
// an id. It asks nobody. The error is a *jobs.InputError.
func (p IntentParams) Draft() (Intent, error) {
	draft := Intent{
		Name: p.Name, Server: p.Server, DBName: p.DBName, Kind: p.Kind, Creates: p.Creates, Actor: p.Actor,
		Job: p.Name + "_job", Owner: p.Name + "_headgate",
	}
	if draft.DBName == "" {
		draft.DBName = p.Name
	}
	if p.Creates {
		draft.App = p.Name + "_app"
	}
	switch {
	case !intentName.MatchString(p.Name):
		return Intent{}, jobs.Inputf("name", p.Name, "it must match %s, because its roles are named after it: NAME_job, NAME_headgate, NAME_app", `[a-z][a-z0-9-]{0,53}`)
	case p.Name == "headgate":
		return Intent{}, jobs.Inputf("name", p.Name, "its job login would be named headgate_job, which is the group of all job logins; choose another")
	case p.Name == "pg":
		return Intent{}, jobs.Inputf("name", p.Name, "its roles would begin with pg_, which Postgres keeps for itself; choose another")
	case p.Kind != KindShared && p.Kind != KindDedicated:
		return Intent{}, jobs.Inputf("kind", p.Kind, "give shared or dedicated")
	}
	return draft, checkName("name", p.Name)
}

// newPassword has 192 bits of chance in 32 characters that need no quoting anywhere.
func newPassword() address.Secret {
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails, see crypto/rand
	return address.NewSecret(base64.RawURLEncoding.EncodeToString(raw))
}

// The sealed columns of an intent. Nobody changes them, so their version is 1.
const (
	jobPasswordColumn   = "job_password"
	ownerPasswordColumn = "owner_password"
	appPasswordColumn   = "app_password"
	passwordVersion     = 1
)

const intentColumns = `
SELECT i.id::text, i.name, s.name, i.dbname, i.kind, i.creates, i.job_role, i.owner_role, coalesce(i.app_role, ''), i.step, i.error, i.actor, i.begun_at
FROM headgate.database_intents i JOIN headgate.servers s ON s.id = i.server_id`

const intentsSQL = intentColumns + `
WHERE i.name > $1
ORDER BY i.name
LIMIT $2`

// Intents returns what is being made by name, 200 or up to 10,000 a page, and the After of
// the next page ("" if nothing follows).
func Intents(ctx context.Context, db querier, page jobs.Page) (intents []Intent, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list intents: %w", err)
	}
	rows, _ := db.Query(ctx, intentsSQL, page.After, limit+1) // its error is CollectRows' too
	if intents, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Intent]); err != nil {
		return nil, "", fmt.Errorf("list intents: %w", err)
	}
	intents, next = jobs.CutPage(intents, limit, func(i Intent) string { return i.Name })
	return intents, next, nil
}

const intentSQL = intentColumns + `
WHERE i.name = $1`

// Find returns the intent of the name that is held. The error matches ErrNoIntent if there
// is none.
func (h *IntentHold) Find(ctx context.Context) (Intent, error) {
	defer h.mu.Unlock()
	h.mu.Lock()
	rows, _ := h.conn.Query(ctx, intentSQL, h.name) // its error is CollectExactlyOneRow's too
	intent, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Intent])
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: %s", ErrNoIntent, shown(h.name))
	} else if err != nil {
		err = fmt.Errorf("find the intent of database %s: %w", shown(h.name), err)
	}
	return intent, err
}

const sealedSQL = `
SELECT id, job_password, owner_password, app_password FROM headgate.database_intents WHERE name = $1`

// Passwords opens the passwords of the intent. An error for a missing key matches
// address.ErrUndecryptable.
func (h *IntentHold) Passwords(ctx context.Context, ring *KeyRing) (p Passwords, err error) {
	defer h.mu.Unlock()
	h.mu.Lock()
	var id uuid.UUID
	var job, owner, app []byte
	if err := h.conn.QueryRow(ctx, sealedSQL, h.name).Scan(&id, &job, &owner, &app); err != nil {
		return p, fmt.Errorf("read the passwords of database %s: %w", shown(h.name), err)
	}
	for _, s := range []struct {
		column string
		sealed []byte
		into   *address.Secret
	}{{jobPasswordColumn, job, &p.Job}, {ownerPasswordColumn, owner, &p.Owner}, {appPasswordColumn, app, &p.App}} {
		if s.sealed == nil {
			continue
		}
		plain, err := ring.open(id, s.column, passwordVersion, s.sealed)
		if err != nil {
			return Passwords{}, fmt.Errorf("open the passwords of database %s: %w", shown(h.name), err)
		}
		*s.into = address.NewSecret(string(plain))
	}
	return p, nil
}
