package schedulecmd

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// parse reads a file of one schedule, of which line 3 is these lines and on.
func parse(t *testing.T, lines ...string) (fileSchedule, error) {
	t.Helper()
	file, err := parseScheduleFile([]byte("name: x\nschedules:\n" + strings.Join(lines, "\n")))
	if err != nil {
		return fileSchedule{}, err
	}
	require.Len(t, file.Schedules, 1)
	return file.Schedules[0], nil
}

// Arguments keep their literal text: what JSON would write otherwise is refused by its
// line.
func TestArgumentsOfAFileAreItsLiterals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ written, json, says string }{
		{written: "code: 0700", says: `line 3: "0700" is no number as JSON writes one: put it in quotes`},
		{written: "zip: 01234", says: "put it in quotes"},
		{written: "n: 089", says: "put it in quotes"},
		{written: "n: -07", says: "put it in quotes"},
		{written: "n: 0o17", says: "put it in quotes"},
		{written: "n: 0x1F", says: "put it in quotes"},
		{written: "n: 0b11", says: "put it in quotes"},
		{written: "us: 1_000", says: "put it in quotes"},
		{written: "n: +5", says: "put it in quotes"},
		{written: "n: .5", says: "put it in quotes"},
		{written: "n: 5.", says: "put it in quotes"},
		{written: "n: .inf", says: "put it in quotes"},
		{written: "n: -.INF", says: "put it in quotes"},
		{written: "n: .nan", says: "put it in quotes"},
		{written: "from: 2026-01-01", says: "is a time to YAML, and JSON has none: put it in quotes"},
		{written: "at: 2026-01-01 10:00:00", says: "put it in quotes"},
		{written: "at: 2026-01-01T10:00:00Z", says: "put it in quotes"},
		{written: "n: !!str 0700", says: "line 3: the tag !!str: tags are not read"},
		{written: "n: !!binary aGk=", says: "tags are not read"},
		{written: "n: !own 1", says: "tags are not read"},
		{written: "n: 1, n: 2", says: `line 3: "n" is given twice, first in line 3`},
		{written: "? [a] : 1", says: "a list or a mapping is no key"},
		{written: `code: "0700"`, json: `{"code":"0700"}`},
		{written: "zip: '01234'", json: `{"zip":"01234"}`},
		{written: "from: '2026-01-01'", json: `{"from":"2026-01-01"}`},
		{written: "big: 123456789012345678901234567890", json: `{"big":123456789012345678901234567890}`},
		{written: "f: 0.12345678901234567890123456789", json: `{"f":0.12345678901234567890123456789}`},
		{written: "ver: 3.0", json: `{"ver":3.0}`},
		{written: "n: 1e21", json: `{"n":1e21}`},
		{written: "n: 1E+5", json: `{"n":1E+5}`},
		{written: "n: -0", json: `{"n":-0}`},
		{written: "n: -12", json: `{"n":-12}`},
		{written: "b: yes, c: no, d: on, e: True, f: false", json: `{"b":"yes","c":"no","d":"on","e":true,"f":false}`},
		{written: "n: null, m: ~, o: ", json: `{"n":null,"m":null,"o":null}`},
		{written: "007: x, true: y, 2026-01-01: z", json: `{"007":"x","true":"y","2026-01-01":"z"}`},
		{written: "t: 12:30, v: 1.2.3, w: <<", json: `{"t":"12:30","v":"1.2.3","w":"\u003c\u003c"}`},
		{written: "l: [1, [2, {x: 3.10}], 'a']", json: `{"l":[1,[2,{"x":3.10}],"a"]}`},
		{written: "e: '', s: \"a\\nb\\u00e9\"", json: `{"e":"","s":"a\nbé"}`},
	} {
		s, err := parse(t, "  - {name: a, args: {"+test.written+"}}")
		if test.says != "" {
			require.ErrorContains(t, err, test.says, test.written)
			require.ErrorContains(t, err, "line 3", test.written)
			continue
		}
		require.NoError(t, err, test.written)
		require.Equal(t, test.json, string(s.Args), test.written)
	}
	_, err := parse(t, "  - name: a", "    args:", "      ok: 1", "      text: |", "        0700", "      zip: 01234")
	require.ErrorContains(t, err, "line 8: \"01234\"")
	_, err = parse(t, "  - {name: a, args: [1]}")
	require.ErrorContains(t, err, "line 3: args: want a mapping")
}

// An alias stands for what is anchored, in every place, and a merged key for the
// other mapping's; what cannot be resolved is refused.
func TestAliasesAreWhatTheyStandFor(t *testing.T) {
	t.Parallel()
	file, err := parseScheduleFile([]byte(`
name: x
schedules:
  - &base {name: a-one, select: &free plan = enterprise, kind: app.x, cron: &daily '@daily', args: &args {n: &n 1.50}, overrides: {acme: &o {cron: '@hourly'}}}
  - {name: a-two, select: *free, cron: *daily, args: {m: *n, whole: *args}, overrides: {brick: *o}}
  - {<<: *base, name: a-three}
  - {<<: [{cron: '@weekly', zone: UTC}, *base], name: a-four, select: "plan in (pro, x) and tenant = acme"}
`))
	require.NoError(t, err)
	one, two, three, four := file.Schedules[0], file.Schedules[1], file.Schedules[2], file.Schedules[3]
	require.Equal(t, "plan = enterprise", one.Select.String())
	require.Equal(t, "plan = enterprise", two.Select.String())
	require.Equal(t, []string{"@daily", `{"m":1.50,"whole":{"n":1.50}}`, "@hourly"}, []string{two.Cron, string(two.Args), two.Overrides[0].Cron})
	three.Name, three.Line = one.Name, one.Line
	require.Equal(t, one, three)
	require.Equal(t, []string{"@weekly", "UTC", "app.x", `{"n":1.50}`}, []string{four.Cron, four.Zone, four.Kind, string(four.Args)})
	require.Equal(t, "plan in (pro, x) and tenant = acme", four.Select.String())

	for says, text := range map[string]string{
		"holds an alias of itself":            "name: x\nschedules: [{name: a, args: {a: &a [*a]}}]",
		"no value of the file is marked &sel": "name: x\nschedules: [{name: a, select: &a all}, {name: b, select: *sel}]",
		"line 2: << merges mappings only":     "name: x\nschedules: [{name: a, <<: 1}]",
		"more than 100 levels":                "name: x\nschedules: [{name: a, args: {a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}}]",
		"more than 262144 bytes of JSON":      "name: x\nschedules: [{name: a, args: {a: " + bomb(26) + "}}]",
		"line 4: select: want an expression":  "name: x\nschedules:\n  - name: a\n    select: {plan: a}",
		"line 2: schedules: want a mapping":   "name: x\nschedules: [{name: a}, b]",
		"name: want one text":                 "name: {a: b}",
		"line 2: schedules: item 2 is empty":  "name: x\nschedules: [{name: a}, ]\n---\nname: x\nschedules: [{name: b},\n ~]",
	} {
		_, err := parseScheduleFile([]byte(text))
		if strings.HasPrefix(says, "line 2: schedules: item") {
			says = "line 6: schedules: item 2 is empty"
		}
		require.ErrorContains(t, err, says, text)
	}
}

// bomb is lists of lists of lists, all in a few aliases.
func bomb(levels int) string {
	text := "[&la [x]"
	for i := 1; i < levels; i++ {
		alias := "*l" + string(rune('a'+i-1))
		text += ", &l" + string(rune('a'+i)) + " [" + alias + ", " + alias + "]"
	}
	return text + "]"
}

// All documents of a file are one file: none is dropped.
func TestAFileIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"name: site\nschedules:\n- {name: one}\n---\nname: site\nschedules:\n- {name: two}\n",
		"# comments alone\n---\nname: site\nschedules: [{name: one}]\n---\n---\nschedules: [{name: two}]\ncalendars: {days: [2026-12-24]}\n...\n",
		"%YAML 1.1\n---\nname: site\nschedules: [{name: one}, {name: two}]\n",
		"\ufeffname: site\r\nschedules: [{name: one}, {name: two}]\r\n",
		`{"name": "site", "schedules": [{"name": "one"}, {"name": "two"}]}`,
	} {
		file, err := parseScheduleFile([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, "site", file.Name)
		require.Len(t, file.Schedules, 2, text)
	}
	for says, text := range map[string]string{
		"line 3: this document is named \"b\", and one before it \"a\"": "name: a\n---\nname: b",
		"calendar \"d\" is in the file twice":                           "name: a\ncalendars: {d: []}\n---\ncalendars: {d: []}",
		"line 4: unknown field \"schedule\" (did you mean schedules?)":  "name: a\n---\n---\nschedule: []",
		"line 3: want a mapping":                                        "name: a\n---\njust text",
		"name is missing":                                               "schedules: []\n---\n",
		"line 3":                                                        "name: a\n---\nname: b: c",
		"did not find expected":                                         `{"name": "a"} {"name": "b"}`,
	} {
		_, err := parseScheduleFile([]byte(text))
		require.ErrorContains(t, err, says, text)
	}
}

// What is wrong is said in the words of the file, with its line, and of a sign that
// YAML keeps for itself that the value wants quotes.
func TestAFilesErrorsAreInItsWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, says string }{
		{"cron: * * * * *", `line 4: * * * * * begins with *, which YAML keeps for itself: put it in quotes, as in '* * * * *'`},
		{"cron: */5 * * * *", `line 4: */5 * * * * begins with *`},
		{"cron: @daily", `line 4: @daily begins with @, which YAML keeps for itself: put it in quotes, as in '@daily'`},
		{"cron: *daily", `line 4: *daily begins with *`},
		{"windows: [%a]", `line 4: %a begins with %`},
		{"<<: *bose", `line 4: no value of the file is marked &bose`},
		{"cronn: '@daily'", `line 4: unknown field "cronn" (did you mean cron?); the fields here are args, brand, buffer_max`},
		{"priority: high", `line 4: priority: want a whole number, got "high"`},
		{"priority: 010", `line 4: priority: want a whole number, got "010"`},
		{"priority: 1_0", `line 4: priority: want a whole number`},
		{"priority: 99999999999", `line 4: priority: want a whole number`},
		{"priority: '1'", `line 4: priority: want a whole number, got "1"`},
		{"maintenance: yes", `line 4: maintenance: want true or false, got "yes"`},
		{"spread: 10", `line 4: "10" is no duration in whole seconds: write 10m or 72h`},
		{"spread: 1.5s", `line 4: "1.5s" is no duration in whole seconds`},
		{"start: 2026-12-01", `line 4: "2026-12-01" is no time in RFC 3339 form`},
		{"windows: 09:00-17:00", `line 4: windows: want a list, as in [a, b]`},
		{"select: colour = red", "line 4: select: selector, character 1: unknown attribute \"colour\""},
		{"overrides: [acme]", `line 4: overrides: want a mapping of tenants`},
		{"overrides: {acme: }", `line 4: the override for "acme" changes nothing: give cron, zone or args`},
		{"catch_up: latest", `line 4: catch_up: want a mapping`},
		{"catch_up: {polcy: all}", `line 4: unknown field "polcy" (did you mean policy?)`},
	} {
		_, err := parse(t, "  - name: a", "    "+test.line)
		require.ErrorContains(t, err, test.says, test.line)
		require.NotContains(t, err.Error(), "schedulecmd.", "no Go types: %s", test.line)
	}
	s, err := parse(t, "  - name: 007", "    cron: 0 2 * * *", "    start: 2026-12-01T00:00:00+01:00", "    end: \"2026-12-02T00:00:00.5Z\"", "    zone: ~", "    maintenance: True", "    catch_up: {window: 72h}")
	require.NoError(t, err)
	require.Equal(t, []any{"007", 3, "0 2 * * *", "2026-11-30T23:00:00Z", "", true, 72 * time.Hour}, []any{s.Name, s.Line, s.Cron, s.Start.at.UTC().Format("2006-01-02T15:04:05Z"), s.Zone, s.Maintenance, time.Duration(s.CatchUp.Window)})
}
