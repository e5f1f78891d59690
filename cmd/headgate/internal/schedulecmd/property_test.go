package schedulecmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// field is one field of a schedule: what it is stored as, and two ways to write it.
type field struct {
	name, is      string
	written, also string
}

// draft is one schedule of a generated file.
type draft struct {
	name, selects string
	fields        []field
	overrides     map[string][]field // by slug
}

// tenantNames are what the tenants of a property are called: slug, org_id, UUID.
type tenantNames map[string][]string

// pick draws a field that is one of several plain texts.
func pick(r *rapid.T, name string, values ...string) field {
	value := rapid.SampledFrom(values).Draw(r, name)
	return field{name, value, strconv.Quote(value), "'" + value + "'"}
}

func number(r *rapid.T, name string, from, to int) field {
	n := strconv.Itoa(rapid.IntRange(from, to).Draw(r, name))
	return field{name, n, n, n}
}

// instant is a time that is written with two offsets.
func instant(r *rapid.T, name string, year int) field {
	at := time.Date(year, 1, 1, 0, 0, rapid.IntRange(0, 300*24*3600).Draw(r, name), rapid.SampledFrom([]int{0, 123456000, 123456789}).Draw(r, "fraction"), time.UTC)
	in := func() string {
		return at.In(time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(r, "offset"))).Format(time.RFC3339Nano)
	}
	return field{name, at.Truncate(time.Microsecond).Format(time.RFC3339Nano), in(), strconv.Quote(in())}
}

func duration(r *rapid.T, name string) field {
	n := rapid.IntRange(1, 3600).Draw(r, name)
	return field{name, strconv.Itoa(n), fmt.Sprintf("%ds", n), strconv.Quote((time.Duration(n) * time.Second).String())}
}

// literal is a JSON value that is written in two ways. What it is is its own text: the
// property reads it back through numbers, and not through their notation.
func literal(r *rapid.T, depth int) (written, also string) {
	switch kind := rapid.IntRange(0, 6+2*min(depth, 1)).Draw(r, "kind"); kind {
	case 0:
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,40})`).Draw(r, "integer")
		return digits, digits
	case 1:
		digits, zeros := rapid.StringMatching(`-?[1-9][0-9]{0,5}`).Draw(r, "mantissa"), rapid.IntRange(0, 30).Draw(r, "exponent")
		return digits + rapid.SampledFrom([]string{"e", "E", "e+"}).Draw(r, "e") + strconv.Itoa(zeros), digits + strings.Repeat("0", zeros)
	case 2:
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,9})\.[0-9]{1,30}`).Draw(r, "decimal")
		return text, text
	case 3:
		text := rapid.StringMatching(`[1-9]\.[0-9]{1,5}[eE]-[0-9]{1,2}`).Draw(r, "small")
		return text, text
	case 4:
		word := rapid.SampledFrom([]string{"true", "false", "null"}).Draw(r, "word")
		return word, strings.ToUpper(word)
	case 5, 6:
		text := strings.ToValidUTF8(strings.ReplaceAll(rapid.String().Draw(r, "text"), "\x00", ""), "")
		traps := []string{"0700", "2026-01-01", "1_000", "yes", "~", "*x", "@daily", "", " ", "a: b", "<<"}
		text = rapid.SampledFrom(append(traps, text, text)).Draw(r, "trap")
		return strconv.QuoteToASCII(text), strconv.QuoteToASCII(text)
	case 7:
		return list2(r, depth, "[", "]", func(int) string { return "" })
	default:
		return list2(r, depth, "{", "}", func(i int) string { return "k" + strconv.Itoa(i) + ": " })
	}
}

// list2 is a list or a mapping, written twice; a mapping the second time backwards.
func list2(r *rapid.T, depth int, open, end string, key func(int) string) (written, also string) {
	var first, second []string
	for i := range rapid.IntRange(0, 3).Draw(r, "length") {
		a, b := literal(r, depth-1)
		first, second = append(first, key(i)+a), append(second, key(i)+b)
	}
	if open == "{" {
		slices.Reverse(second)
	}
	return open + strings.Join(first, ", ") + end, open + strings.Join(second, ",\n        ") + end
}

func arguments(r *rapid.T) field {
	written, also := list2(r, 2, "{", "}", func(i int) string { return "a" + strconv.Itoa(i) + ": " })
	return field{"args", written, written, also}
}

// drawDraft draws a schedule with any of its fields.
func drawDraft(r *rapid.T, name string, tenants tenantNames) draft {
	d := draft{name: name, selects: rapid.SampledFrom([]string{"all", "plan = pro", "plan=free", "plan = nobody", "tenant in (acme)"}).Draw(r, "select"), overrides: map[string][]field{}}
	crons := []string{"@daily", "0 2 * * *", "*/15 3 * * *", "30 4 * * 1", "@every 90m"}
	d.fields = []field{pick(r, "kind", "app.one", "app.two"), pick(r, "cron", crons...)}
	maybe := func(f func() field) {
		if rapid.Bool().Draw(r, "given") {
			d.fields = append(d.fields, f())
		}
	}
	maybe(func() field { return pick(r, "zone", "UTC", "Asia/Tokyo") })
	maybe(func() field { return arguments(r) })
	maybe(func() field { return pick(r, "queue", "slow", "fast") })
	maybe(func() field { return number(r, "priority", 1, 4) })
	maybe(func() field { return number(r, "max_attempts", 1, 30) })
	maybe(func() field { return pick(r, "gap", "next", "skip") })
	maybe(func() field { return pick(r, "repeat", "first", "last") })
	maybe(func() field { return instant(r, "end", 2037) })
	if rapid.Bool().Draw(r, "start") {
		d.fields = append(d.fields, instant(r, "start", 2035), number(r, "max", 1, 1000))
	}
	maybe(func() field { return field{"calendars", "{feasts}", "[feasts]", "['feasts']"} })
	maybe(func() field {
		return field{"windows", `{00:00-24:00,"SAT 01:00-02:00"}`, `["00:00-24:00", "SAT 01:00-02:00"]`, `['00:00-24:00', SAT 01:00-02:00]`}
	})
	maybe(func() field { return duration(r, "spread") })
	maybe(func() field { return pick(r, "overlap", "skip", "buffer_one", "buffer_all", "cancel", "allow") })
	maybe(func() field { return number(r, "buffer_max", 1, 1000) })
	maybe(func() field { return number(r, "pause_after", 0, 1000) })
	maybe(func() field { return field{"maintenance", "true", "true", "True"} })
	maybe(func() field {
		policy, most, window := pick(r, "policy", "none", "latest", "all"), number(r, "max", 1, 1000), duration(r, "window")
		return field{"catch_up", policy.is + " " + most.is + " " + window.is, "{policy: " + policy.written + ", max: " + most.written + ", window: " + window.written + "}",
			"{window: " + window.also + ", max: " + most.also + ", policy: " + policy.also + "}"}
	})
	for _, slug := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"acme", "birch", "brick"}), rapid.ID[string]).Draw(r, "overridden") {
		own := []field{pick(r, "cron", crons...)}
		if rapid.Bool().Draw(r, "zone given") {
			own = append(own, pick(r, "zone", "UTC", "Asia/Kolkata"))
		}
		if rapid.Bool().Draw(r, "args given") {
			own = append(own, arguments(r))
		}
		d.overrides[slug] = own
	}
	return d
}

// write is the draft as YAML: one notation, or the other.
func (d *draft) write(r *rapid.T, tenants tenantNames, other bool) string {
	line := func(f field) string {
		if other {
			return f.name + ": " + f.also
		}
		return f.name + ": " + f.written
	}
	lines := []string{"name: " + d.name, "select: " + d.selects}
	for _, f := range d.fields {
		lines = append(lines, line(f))
	}
	var overrides []string
	for slug, fields := range d.overrides {
		var own []string
		for _, f := range fields {
			own = append(own, line(f))
		}
		called := rapid.SampledFrom(tenants[slug]).Draw(r, "called")
		overrides = append(overrides, called+": {"+strings.Join(own, ", ")+"}")
	}
	if len(overrides) > 0 {
		lines = append(lines, "overrides: {"+strings.Join(overrides, ", ")+"}")
	}
	if other {
		slices.Reverse(lines)
	}
	return "  - " + strings.Join(lines, "\n    ") + "\n"
}

// write is a file of drafts, in one document or in several.
func write(r *rapid.T, drafts []draft, tenants tenantNames, other bool) string {
	text := "name: site\ncalendars: {feasts: [2036-12-24..2036-12-26]}\nschedules:\n"
	for i := range drafts {
		if i > 0 && other {
			text += "---\nschedules:\n"
		}
		text += drafts[i].write(r, tenants, other)
	}
	return text
}

// what a file says is applied, and a second apply does nothing, in whichever notation the
// same values are written: plan, drift and apply agree, and with what the tables then
// hold.
func TestPlanApplyAndDriftAgree(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "shared"})
	ctx := context.Background()
	app := cli.New("headgate", nil, io.Discard, io.Discard, nil)
	tenants := tenantNames{}
	for _, slug := range []string{"acme", "birch", "brick"} {
		env.Tenant(slug, "db")
		var org, id string
		require.NoError(t, env.Pool.QueryRow(ctx, "SELECT quote_literal(org_id::text), id::text FROM headgate.tenants WHERE slug = $1", slug).Scan(&org, &id))
		tenants[slug] = []string{slug, org, id}
	}
	do(t, env, "UPDATE headgate.tenants SET plan = CASE slug WHEN 'brick' THEN 'free' ELSE 'pro' END")
	read := func(r *rapid.T, text string) schedule.File {
		app.Stdin = strings.NewReader(text)
		file, err := readScheduleFile(ctx, app, "-", "")
		require.NoError(r, err, text)
		return file
	}
	rapid.Check(t, func(r *rapid.T) {
		drafts := []draft{drawDraft(r, "one", tenants)}
		if rapid.Bool().Draw(r, "two") {
			drafts = append(drafts, drawDraft(r, "two", tenants))
		}
		text := write(r, drafts, tenants, false)
		planned, err := env.Schedules.Files.Plan(ctx, read(r, text))
		require.NoError(r, err, text)
		drifted, _, err := env.Schedules.Files.Drift(ctx, read(r, text))
		require.NoError(r, err, text)
		require.Equal(r, planned, drifted, text)
		applied, err := env.Schedules.Files.Apply(ctx, read(r, text))
		require.NoError(r, err, text)
		require.Equal(r, planned, applied, "plan is what apply does: %s", text)
		for _, same := range []string{text, write(r, drafts, tenants, true)} {
			planned, err = env.Schedules.Files.Plan(ctx, read(r, same))
			require.NoError(r, err, same)
			require.Empty(r, planned, "%s after\n%s", same, text)
			steps, rows, err := env.Schedules.Files.Drift(ctx, read(r, same))
			require.NoError(r, err, same)
			require.Empty(r, steps, same)
			require.Empty(r, rows, same)
		}
		for _, d := range drafts {
			holds(r, env, d)
		}
	})
}

func do(t *testing.T, env *jobstest.Env, sql string) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), sql)
	require.NoError(t, err)
}

// columns are where the fields of a file are kept, as text.
var columns = map[string]string{
	"end": "to_char(end_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US')", "start": "to_char(start_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US')", "max": "max_occurrences::text",
	"catch_up": "concat_ws(' ', catch_up, catch_up_max, catch_up_window)",
}

// holds: the rows of the tenants that the draft selects are what it says.
func holds(r *rapid.T, env *jobstest.Env, d draft) {
	wanted := map[string][]string{"all": {"acme", "birch", "brick"}, "plan = pro": {"acme", "birch"}, "plan=free": {"brick"}, "plan = nobody": nil, "tenant in (acme)": {"acme"}}[d.selects]
	rows, err := env.Pool.Query(context.Background(), "SELECT t.slug, s.id FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE s.name = $1 ORDER BY t.slug", d.name)
	require.NoError(r, err)
	var have []string
	ids := map[string]string{}
	var slug, id string
	_, err = pgx.ForEachRow(rows, []any{&slug, &id}, func() error { have, ids[slug] = append(have, slug), id; return nil })
	require.NoError(r, err)
	require.Equal(r, wanted, have)
	for slug, id := range ids {
		says := map[string]field{}
		for _, f := range append(slices.Clone(d.fields), d.overrides[slug]...) {
			says[f.name] = f
		}
		for name, f := range says {
			column, ok := columns[name]
			if !ok {
				column = name + "::text"
			}
			var is string
			require.NoError(r, env.Pool.QueryRow(context.Background(), "SELECT "+column+" FROM headgate.schedules WHERE id = $1", id).Scan(&is))
			switch name {
			case "args":
				require.True(r, sameJSON(r, f.is, is), "%s of %s: file %s, stored %s", name, slug, f.is, is)
			case "start", "end":
				at, err := time.Parse("2006-01-02T15:04:05.999999", is)
				require.NoError(r, err)
				require.Equal(r, f.is, at.Format(time.RFC3339Nano))
			default:
				require.Equal(r, f.is, is, "%s of %s", name, slug)
			}
		}
	}
}

// sameJSON compares a file's flow mapping with stored JSON, number by number.
func sameJSON(r *rapid.T, written, stored string) bool {
	documents, err := yamlDocuments([]byte(written))
	require.NoError(r, err)
	raw, err := yamlJSON(documents[0])
	require.NoError(r, err)
	return reflect.DeepEqual(rational(r, string(raw)), rational(r, stored))
}

// rational reads JSON with its numbers as exact fractions.
func rational(r *rapid.T, text string) any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	require.NoError(r, decoder.Decode(&value))
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			n, ok := new(big.Rat).SetString(v.String())
			require.True(r, ok, v)
			return n.RatString()
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	return walk(value)
}
