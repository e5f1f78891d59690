package schedule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
)

// member is a tenant as the test knows it, without SQL.
type member struct {
	texts    map[string]string // what it has of the plain attributes
	labels   map[string]string
	features map[string]any // bool, string or json.Number
}

// asked is an expression of the test's own, in which and or and not are applied, and in which
// the text is one of those that mean it.
type asked struct {
	text string
	fits func(m member) bool
}

// rational is a number's value, in any notation; nil for what is none.
func rational(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil
	}
	return r
}

// numberOfLabel is the value of a label's text that counts as a number.
func numberOfLabel(text string) *big.Rat {
	digits := strings.TrimPrefix(text, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	plain := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	switch {
	case !plain(whole), point && !plain(fraction), len(whole) > 15, point && (len(whole) > 9 || len(fraction) > 6):
		return nil
	}
	return rational(text)
}

var (
	someTexts   = []string{"pro", "free", "it's", "2024", "true", `"\)`, "", "ünï"}
	someLabels  = []string{"gold", "10", "10.0", "010", "-3.50", "1e1", "true", "123456789012345", "1234567890123456", "ü"}
	someNumbers = []string{"10", "10.00", "-3.5", "0", "123456789012345", "1234567890123456"}
	someRegions = []string{"eu", "us"}
)

func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// comparisons draws one comparison.
func comparisons(r *rapid.T) asked {
	pick := func(list []string) string { return rapid.SampledFrom(list).Draw(r, "of") }
	switch rapid.IntRange(0, 8).Draw(r, "what") {
	case 0:
		return asked{"feature.flag", func(m member) bool { return m.features["flag"] == true }}
	case 1:
		key := pick([]string{"a", "b.c"})
		return asked{"label." + key, func(m member) bool { _, ok := m.labels[key]; return ok }}
	case 2:
		return asked{"region", func(m member) bool { _, ok := m.texts["region"]; return ok }}
	case 3:
		return ordered(r)
	}
	name := pick([]string{"plan", "status", "region", "timezone", "database", "server", "tenant", "label.a", "feature.seats", "feature.tone", "feature.flag"})
	var texts []string
	var tests []func(member) bool
	for range rapid.IntRange(1, 3).Draw(r, "values") {
		text, test := valueOf(r, name)
		texts, tests = append(texts, text), append(tests, test)
	}
	not := rapid.Bool().Draw(r, "not")
	text := fmt.Sprintf("%s %sin (%s)", name, map[bool]string{true: "NOT ", false: ""}[not], strings.Join(texts, " , "))
	if len(texts) == 1 {
		text = name + map[bool]string{true: "!=", false: "="}[not] + texts[0]
	}
	return asked{text, func(m member) bool {
		return slices.ContainsFunc(tests, func(test func(member) bool) bool { return test(m) }) != not
	}}
}

// valueOf draws a value, and what it is equal to.
func valueOf(r *rapid.T, name string) (text string, equals func(member) bool) {
	kind, key, _ := strings.Cut(name, ".")
	number := rapid.Bool().Draw(r, "number")
	switch {
	case kind == "label" && number:
		n := rapid.SampledFrom(someNumbers).Draw(r, "n")
		return n, func(m member) bool {
			have := numberOfLabel(m.labels[key])
			return have != nil && have.Cmp(rational(n)) == 0
		}
	case kind == "label":
		v := rapid.SampledFrom(someLabels).Draw(r, "v")
		return quoteText(v), func(m member) bool { have, ok := m.labels[key]; return ok && have == v }
	case key == "flag":
		v := rapid.Bool().Draw(r, "v")
		return strings.ToUpper(fmt.Sprint(v)), func(m member) bool { return m.features[key] == v }
	case kind == "feature" && number:
		n := rapid.SampledFrom(someNumbers).Draw(r, "n")
		return n, func(m member) bool {
			have, ok := m.features[key].(json.Number)
			return ok && rational(have.String()).Cmp(rational(n)) == 0
		}
	case kind == "feature":
		v := rapid.SampledFrom(someTexts).Draw(r, "v")
		return quoteText(v), func(m member) bool { return m.features[key] == v }
	}
	v := rapid.SampledFrom(map[string][]string{
		"plan": someTexts, "status": {"active", "suspended", "archived"}, "region": someRegions, "timezone": {"UTC", "Europe/Paris", "Etc/GMT+5"},
		"database": {"db-server-1", "db-server-2", "nope"}, "server": {"server-1", "server-3"}, "tenant": {"c1", "c2", "c7", "nobody"},
	}[name]).Draw(r, "v")
	return quoteText(v), func(m member) bool { have, ok := m.texts[name]; return ok && have == v }
}

// ordered draws a comparison by < and the like.
func ordered(r *rapid.T) asked {
	n, op := rapid.SampledFrom(someNumbers).Draw(r, "n"), rapid.SampledFrom([]string{"<", "<=", ">", ">="}).Draw(r, "op")
	holds := func(have *big.Rat) bool {
		if have == nil {
			return false
		}
		c := have.Cmp(rational(n))
		return map[string]bool{"<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[op]
	}
	if rapid.Bool().Draw(r, "label") {
		return asked{"label.a " + op + n, func(m member) bool { return holds(numberOfLabel(m.labels["a"])) }}
	}
	return asked{"feature.seats" + op + " " + n, func(m member) bool {
		have, ok := m.features["seats"].(json.Number)
		return ok && holds(rational(have.String()))
	}}
}

// expressions draws an expression of some depth. Parentheses stand everywhere, so that the
// precedence is not the parser's alone to decide, but for and inside or.
func expressions(r *rapid.T, depth int) asked {
	if depth == 0 || rapid.IntRange(0, 3).Draw(r, "leaf") == 0 {
		return comparisons(r)
	}
	a := expressions(r, depth-1)
	switch rapid.IntRange(0, 3).Draw(r, "joint") {
	case 0:
		return asked{"not (" + a.text + ")", func(m member) bool { return !a.fits(m) }}
	case 1:
		b := expressions(r, depth-1)
		return asked{"(" + a.text + ") and(" + b.text + ")", func(m member) bool { return a.fits(m) && b.fits(m) }}
	case 2:
		b := expressions(r, depth-1)
		return asked{"((" + a.text + ")\nOR " + "(" + b.text + "))", func(m member) bool { return a.fits(m) || b.fits(m) }}
	default:
		b, c := comparisons(r), comparisons(r)
		return asked{b.text + " or (" + a.text + ") and not " + c.text, func(m member) bool { return b.fits(m) || a.fits(m) && !c.fits(m) }}
	}
}

// members makes tenants with attributes of all kinds, and says what they are.
func members(t *testing.T, env *jobstest.Env, n int) map[string]member {
	t.Helper()
	ctx := context.Background()
	crowd(t, env, n, 3)
	roomtest.Do(t, env, `DELETE FROM headgate.tenants WHERE slug IN ('acme', 'brick')`)
	roomtest.Do(t, env, `INSERT INTO headgate.regions (name) VALUES ('eu'), ('us')`)
	roomtest.Do(t, env, `UPDATE headgate.servers SET region = CASE name WHEN 'server-1' THEN 'eu' WHEN 'server-2' THEN 'us' END`)
	roomtest.Do(t, env, `INSERT INTO headgate.features (name, type, default_value) VALUES ('seats', 'number', '10.0'), ('tone', 'string', NULL), ('flag', 'boolean', 'false')`)
	roomtest.Do(t, env, `INSERT INTO headgate.plans (name, features) VALUES ('pro', '{"seats": 1234567890123456, "flag": true}'), ('free', '{"tone": "ünï"}')`)
	ofPlan := map[string]map[string]any{"pro": {"seats": json.Number("1234567890123456"), "flag": true}, "free": {"tone": "ünï"}}
	ofServer := map[string]string{"server-1": "eu", "server-2": "us"}
	rows, err := env.Pool.Query(ctx, `SELECT t.slug, d.name, s.name FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id JOIN headgate.servers s ON s.id = d.server_id ORDER BY t.org_id`)
	require.NoError(t, err)
	all := map[string]member{}
	var slug, database, server string
	_, err = pgx.ForEachRow(rows, []any{&slug, &database, &server}, func() error {
		all[slug] = member{texts: map[string]string{"tenant": slug, "database": database, "server": server}, labels: map[string]string{}}
		return nil
	})
	require.NoError(t, err)
	chance := rand.New(rand.NewPCG(1, 2))
	pick := func(list []string) string { return list[chance.IntN(len(list))] }
	for slug, m := range all {
		m.texts["plan"], m.texts["timezone"] = pick(someTexts[:4]), pick([]string{"UTC", "Europe/Paris", "Etc/GMT+5"})
		m.texts["status"] = pick([]string{"active", "active", "active", "suspended", "archived"})
		if region := ofServer[m.texts["server"]]; region != "" {
			m.texts["region"] = region
		}
		own := map[string]any{}
		if chance.IntN(2) == 0 {
			m.labels["a"] = pick(someLabels)
		}
		if chance.IntN(3) == 0 {
			m.labels["b.c"] = "x"
		}
		if chance.IntN(3) == 0 {
			own["seats"] = json.Number(pick([]string{"10", "1e1", "-3.50", "0", "123456789012345.5"}))
		}
		if chance.IntN(3) == 0 {
			own["flag"] = chance.IntN(2) == 0
		}
		if chance.IntN(3) == 0 {
			own["tone"] = pick(someTexts)
		}
		m.features = map[string]any{"seats": json.Number("10.0"), "flag": false}
		for _, from := range []map[string]any{ofPlan[m.texts["plan"]], own} {
			for key, value := range from {
				m.features[key] = value
			}
		}
		all[slug] = m
		_, err := env.Pool.Exec(ctx, `UPDATE headgate.tenants SET plan = $2, status = $3, timezone = $4, labels = $5, features = $6 WHERE slug = $1`,
			slug, m.texts["plan"], m.texts["status"], m.texts["timezone"], m.labels, own)
		require.NoError(t, err)
	}
	return all
}

const selectedOneByOne = `
SELECT t.slug FROM headgate.fleets f CROSS JOIN headgate.tenants t CROSS JOIN LATERAL headgate.selections(ARRAY[f.id], ARRAY[t.id]) x
WHERE f.name = 'drawn' ORDER BY t.slug COLLATE "C"`

// Whom an expression selects is one answer, whoever is asked: the test's own evaluation, the
// answer of `selector test`, the list, the stored selector over all tenants, and over each
// tenant alone.
func TestSelectorsHaveOneMeaning(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	all := members(t, env, 60)
	texts := func(sql string) []string {
		rows, err := env.Pool.Query(ctx, sql)
		require.NoError(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return list
	}
	some := 0
	rapid.Check(t, func(r *rapid.T) {
		e := expressions(r, 3)
		s, err := selector.Parse(e.text)
		if err != nil {
			r.Fatalf("%s: %v", e.text, err)
		}
		want, listed := []string{}, []string{}
		for slug, m := range all {
			if !e.fits(m) {
				continue
			}
			if listed = append(listed, slug); m.texts["status"] != "archived" {
				want = append(want, slug)
			}
		}
		slices.Sort(want)
		slices.Sort(listed)
		if len(want) > 0 && len(want) < len(all) {
			some++
		}
		same := func(who string, want, got []string) {
			if !slices.Equal(want, got) {
				r.Fatalf("%s\nis %s\ncompiled %s\n%s: want %v, got %v", e.text, s, s.Selection().Path, who, want, got)
			}
		}
		found, err := env.Catalog.Selected(ctx, s)
		require.NoError(r, err)
		first := []string{}
		for _, tenant := range found.First {
			first = append(first, tenant.Slug)
		}
		slices.Sort(first)
		if found.Count != len(want) || found.Gone != len(listed)-len(want) {
			r.Fatalf("%s: want %d and %d, got %d and %d", e.text, len(want), len(listed)-len(want), found.Count, found.Gone)
		}
		if len(want) <= 20 {
			same("selector test", want, first)
		}
		list, _, err := env.Catalog.Tenants(ctx, catalog.TenantFilter{Select: s, Page: jobs.Page{Limit: 1000}})
		require.NoError(r, err)
		slugs := []string{}
		for _, tenant := range list {
			slugs = append(slugs, tenant.Slug)
		}
		slices.Sort(slugs)
		same("the list", listed, slugs)
		_, err = env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "drawn", Select: s, Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "@daily"}})
		require.NoError(r, err)
		same("all tenants", want, texts(`SELECT t.slug FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE s.name = 'drawn' ORDER BY t.slug COLLATE "C"`))
		same("one by one", want, texts(selectedOneByOne))
	})
	require.Greater(t, some, 10, "most expressions select nobody or everybody")
}

// Tenants follow what they have of others: a plan's features, a feature's default, a server's
// region, a database's server and name.
func TestTenantsFollowWhatTheyShare(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	crowd(t, env, 300, 2) // more than one batch
	roomtest.Do(t, env, `INSERT INTO headgate.regions (name) VALUES ('eu')`)
	roomtest.Do(t, env, `INSERT INTO headgate.features (name, type) VALUES ('beta', 'boolean'), ('seats', 'number')`)
	for name, expression := range map[string]string{"beta": "feature.beta", "seats": "feature.seats >= 10", "regional": "region = eu", "served": "server = server-2", "placed": "database = renamed"} {
		setTemplate(t, env, schedule.TemplateParams{Name: name, Select: selecting(t, expression), Spec: schedule.Spec{Cron: "@daily"}})
	}
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	have := func(name string) int {
		for roomtest.Count(t, env, `SELECT (SELECT count(*) FROM headgate.selector_scopes) + (SELECT count(*) FROM headgate.selector_changes)`) > 0 {
			_, _, err := s.RunOnce(ctx)
			require.NoError(t, err)
		}
		return roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE name = '`+name+`'`)
	}
	on := func(n int) int {
		return roomtest.Count(t, env, fmt.Sprintf(`SELECT count(*) FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id JOIN headgate.servers s ON s.id = d.server_id WHERE s.name = 'server-%d'`, n))
	}
	require.Zero(t, have("beta"))
	roomtest.Do(t, env, `UPDATE headgate.plans SET features = '{"beta": true}' WHERE name = 'crowd'`)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_scopes`), "one row, however many tenants")
	roomtest.Do(t, env, `UPDATE headgate.plans SET features = '{"beta": true, "seats": 3}' WHERE name = 'crowd'`)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_scopes`), "that is noted already")
	answers, err := env.Schedules.Why(ctx, of("c1", "beta"), time.Now())
	require.NoError(t, err)
	require.Contains(t, answers[0].Because, "not yet applied: the features of the tenant, or its database or server, changed at ")
	require.Equal(t, 300, have("beta"))

	roomtest.Do(t, env, `UPDATE headgate.features SET default_value = '10' WHERE name = 'seats'`)
	require.Equal(t, 2, have("seats"), "acme and brick: the plan of the others has 3")
	roomtest.Do(t, env, `UPDATE headgate.plans SET features = '{}' WHERE name = 'crowd'`)
	require.Equal(t, []int{302, 0}, []int{have("seats"), have("beta")})
	roomtest.Do(t, env, `DELETE FROM headgate.features WHERE name = 'seats'`)
	require.Zero(t, have("seats"))
	roomtest.Do(t, env, `INSERT INTO headgate.features (name, type, default_value) VALUES ('seats', 'number', '11')`)
	require.Equal(t, 302, have("seats"))

	require.Equal(t, on(2), have("served"))
	roomtest.Do(t, env, `UPDATE headgate.servers SET region = 'eu' WHERE name = 'server-1'`)
	require.Equal(t, on(1), have("regional"))
	roomtest.Do(t, env, `UPDATE headgate.databases SET server_id = (SELECT id FROM headgate.servers WHERE name = 'server-2') WHERE name = 'db-server-1'`)
	require.Equal(t, []int{0, 300}, []int{have("regional"), have("served")})
	roomtest.Do(t, env, `UPDATE headgate.databases SET name = 'renamed' WHERE name = 'db-server-1'`)
	require.Positive(t, have("placed"))
}

// A tenant that comes to a plan in a transaction which the change of the plan's features
// cannot see, and the other way round, has what it should have when both have committed.
func TestAPlanChangesBesideItsTenants(t *testing.T) {
	t.Parallel()
	for name, planFirst := range map[string]bool{"the plan commits first": true, "the tenant commits first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			ctx := context.Background()
			roomtest.Do(t, env, `INSERT INTO headgate.features (name, type) VALUES ('beta', 'boolean')`)
			roomtest.Do(t, env, `INSERT INTO headgate.plans (name) VALUES ('pro')`)
			setTemplate(t, env, schedule.TemplateParams{Name: "beta", Select: selecting(t, "feature.beta"), Spec: schedule.Spec{Cron: "@daily"}})
			_ = pass(t, env)
			begin := func(sql string) pgx.Tx {
				tx, err := env.Pool.Begin(ctx)
				require.NoError(t, err)
				_, err = tx.Exec(ctx, sql)
				require.NoError(t, err)
				return tx
			}
			plan := begin(`UPDATE headgate.plans SET features = '{"beta": true}' WHERE name = 'pro'`)
			tenant := begin(`UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 'acme'`)
			first, second := plan, tenant
			if !planFirst {
				first, second = tenant, plan
			}
			require.NoError(t, first.Commit(ctx))
			_ = pass(t, env)
			require.NoError(t, second.Commit(ctx))
			_ = pass(t, env)
			require.Equal(t, []string{"acme beta @daily UTC"}, rowsOf(t, env))
		})
	}
}
