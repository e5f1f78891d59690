package selector_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/selector"
)

func TestSelectorsPrintInOneForm(t *testing.T) {
	t.Parallel()
	for written, printed := range map[string]string{
		"all":      "all",
		"  ALL ":   "all",
		"plan=pro": "plan = pro",
		"plan in (pro, enterprise) and region = eu and not feature.beta": "plan in (enterprise, pro) and region = eu and not feature.beta",
		"plan in (pro)":                                 "plan = pro",
		"plan not in ('pro',pro)":                       "plan != pro",
		"NOT (plan = 'and' OR label.tier)":              "not (plan = 'and' or label.tier)",
		"((plan = a)) and (status=active and (region))": "plan = a and status = active and region",
		"plan = a and (region = eu or region = us)":     "plan = a and (region = eu or region = us)",
		"(plan = a and region = eu) or region = us":     "plan = a and region = eu or region = us",
		"not not feature.x":                             "not not feature.x",
		"feature.seats >= 10.50":                        "feature.seats >= 10.5",
		"feature.seats = -0.0":                          "feature.seats = 0",
		"feature.seats = '10'":                          "feature.seats = '10'",
		"label.seats in (10.0, '10', ten, 10)":          "label.seats in ('10', ten, 10)",
		"feature.x in (TRUE, 'true')":                   "feature.x in ('true', true)",
		"label.x = true":                                "label.x = 'true'",
		"plan = 2024 or plan = 'it''s' or plan=''":      "plan = 2024 or plan = 'it''s' or plan = ''",
		"timezone=Etc/GMT+5":                            "timezone = Etc/GMT+5",
		"label.a.b-c = x_y":                             "label.a.b-c = x_y",
		"plan = 'ünïcode 漢'":                            "plan = 'ünïcode 漢'",
	} {
		s, err := selector.Parse(written)
		require.NoError(t, err, written)
		require.Equal(t, printed, s.String(), written)
		again, err := selector.Parse(printed)
		require.NoError(t, err, printed)
		require.Equal(t, s, again, printed)
	}
	require.Equal(t, "tenant = acme", selector.OfTenant("acme").String())
	require.True(t, selector.Selector{}.IsAll())
}

func TestErrorsShowThePlace(t *testing.T) {
	t.Parallel()
	for written, says := range map[string]string{
		"":                            "selector, character 1: the end stands where an attribute belongs: write a comparison, as in plan = pro; all tenants are all\n  \n  ^",
		"plna = pro":                  "selector, character 1: unknown attribute \"plna\" (did you mean plan?): give one of tenant, plan, status, database, server, region, timezone, label.KEY, feature.NAME\n  plna = pro\n  ^^^^",
		"plan = pro annd region = eu": "selector, character 12: \"annd\" cannot stand here: write and or or before another comparison (did you mean and?)\n  plan = pro annd region = eu\n             ^^^^",
		"plan = pro && region":        "selector, character 12: \"&&\" is no operator here: write and\n  plan = pro && region\n             ^^",
		"plan == pro":                 "selector, character 6: \"==\" is no operator here: write =\n  plan == pro\n       ^^",
		"(plan = pro":                 "selector, character 12: the ( at character 1 is not closed: write ), or and or or before another comparison\n  (plan = pro\n             ^",
		"plan = pro)":                 "selector, character 11: this ) closes nothing: take it out, or open a ( before\n  plan = pro)\n            ^",
		"plan in pro":                 "selector, character 9: in needs values in parentheses, as in plan in (a, b)\n  plan in pro\n          ^^^",
		"plan in (a b)":               "selector, character 12: \"b\" stands between the values of in: write a comma or )\n  plan in (a b)\n             ^",
		"plan < 5":                    "selector, character 6: plan is a text, and < compares numbers: write = or in\n  plan < 5\n       ^",
		"feature.n < x":               "selector, character 13: < compares numbers: give one, as in feature.n < 10\n  feature.n < x\n              ^",
		"label.zip = 01234":           "selector, character 13: \"01234\" is no number as they are written here: write digits without + or a leading 0, at most 30, with no exponent; or '01234' for the text\n  label.zip = 01234\n              ^^^^^",
		"status = actve":              "selector, character 10: no tenant has status \"actve\" (did you mean active?): give one of provisioning, active, suspended, moving, archived, removed\n  status = actve\n           ^^^^^",
		"plan":                        "selector, character 5: plan is followed by the end: write =, != or in behind it, as in plan = VALUE\n  plan\n      ^",
		"plan.x = 1":                  "selector, character 1: plan has no parts: write plan alone\n  plan.x = 1\n  ^^^^^^",
		"label. = 1":                  "selector, character 1: which label? write label.KEY, with a key of up to 63 letters, digits, _ . and -\n  label. = 1\n  ^^^^^^",
		"feature.X = 1":               "selector, character 1: which feature? write feature.NAME, with a name of up to 63 lower-case letters, digits, _ and -\n  feature.X = 1\n  ^^^^^^^^^",
		"plan = 'pro":                 "selector, character 8: a text begins here and does not end: close it with '\n  plan = 'pro\n         ^^^^",
		`plan = "pro"`:                "selector, character 8: write a text in single quotes, as in 'two words'\n  plan = \"pro\"\n         ^",
		"plan = and":                  "selector, character 8: \"and\" is a keyword: give a value, or write 'and' for the text\n  plan = and\n         ^^^",
		"all and plan = a":            "selector, character 1: all stands alone: leave it out of a longer expression\n  all and plan = a\n  ^^^",
		"!feature.x":                  "selector, character 1: write not, or != between an attribute and a value\n  !feature.x\n  ^",
		"plan = ünï":                  "selector, character 8: \"ü\" can stand only in a text in single quotes\n  plan = ünï\n         ^",
		"plan = 'ü' xor region":       "selector, character 12: \"xor\" cannot stand here: write and or or before another comparison (did you mean or?)\n  plan = 'ü' xor region\n             ^^^",
	} {
		_, err := selector.Parse(written)
		var e *selector.Error
		require.True(t, errors.As(err, &e), written)
		require.Equal(t, says, e.Error()+"\n"+e.Pointed(), written)
	}
}

func TestBoundsOfAnExpression(t *testing.T) {
	t.Parallel()
	many := func(n int) string { return "plan in (" + strings.TrimSuffix(strings.Repeat("a,", n), ",") + ")" }
	deep := func(n int) string { return strings.Repeat("(", n) + "region" + strings.Repeat(")", n) }
	for _, fits := range []string{many(selector.MaxValues), deep(selector.MaxDepth), "plan = '" + strings.Repeat("x", 200) + "'"} {
		_, err := selector.Parse(fits)
		require.NoError(t, err)
	}
	for says, text := range map[string]string{
		"more than 200 values":              many(selector.MaxValues + 1),
		"more than 30 parentheses":          strings.Repeat("not ", selector.MaxDepth) + deep(1),
		"has 201 bytes: give at most 200":   "plan = '" + strings.Repeat("x", 201) + "'",
		"4001 bytes: give at most 4000":     strings.Repeat(" ", selector.MaxLength-5) + "region",
		"bytes when it is written out":      strings.TrimSuffix(strings.Repeat("label.a=xxxxxxxxxxxxxx or ", 153), "or "),
		"without NUL":                       "plan = 'a\x00'",
		"write it in UTF-8":                 "plan = '\xff'",
		"character 3601: unknown attribute": strings.Repeat(" ", 3600) + "x",
	} {
		_, err := selector.Parse(text)
		require.ErrorContains(t, err, says)
		var e *selector.Error
		require.True(t, errors.As(err, &e))
		require.Less(t, utf8.RuneCountInString(e.Error()), 300)
		for line := range strings.Lines(e.Pointed()) {
			require.Less(t, utf8.RuneCountInString(line), 80)
		}
	}
}

func TestWhatAnExpressionFixes(t *testing.T) {
	t.Parallel()
	of := func(text string) selector.Selection {
		s, err := selector.Parse(text)
		require.NoError(t, err)
		return s.Selection()
	}
	require.Equal(t, selector.Selection{}, of("all"))
	require.Equal(t, selector.Selection{Path: `exists($."plan" ? (@ == "a" || @ == "b"))`, Plans: []string{"a", "b"}}, of("plan in (b, a)"))
	both := of("tenant = x and plan = a and plan = b and not database = d and region")
	require.Equal(t, []string{"x"}, both.Tenants)
	require.Equal(t, []string{"a"}, both.Plans, "the first; the path has both")
	require.Nil(t, both.Databases)
	for _, none := range []string{"plan = a or region", "plan != a", "not plan = a", "not (plan = a and region)", "label.plan = a"} {
		require.Nil(t, of(none).Plans, none)
	}
	require.Equal(t, `!exists($."plan" ? (@ == "\u0022\u005c\u0029 it\u0027s"))`, of(`plan != '"\) it''s'`).Path, "no value ends its text")
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"all", "plan in (pro, 'it''s') and not (label.x or feature.seats >= -1.50)", "plan not in (a)", "((((", "not not region", "feature.x = tRUE", "label.z = 01", "plan = '\u2028'", "x\x00", "\xff'"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := selector.Parse(text)
		if err != nil {
			var e *selector.Error
			if !errors.As(err, &e) || e.From < 0 || e.To < e.From || e.To > len(e.Text) {
				t.Fatalf("%q: %#v", text, err)
			}
			if said := e.Error() + "\n" + e.Pointed(); !utf8.ValidString(said) || strings.Count(said, "\n") != 2 {
				t.Fatalf("%q: %q", text, said)
			}
			return
		}
		printed := s.String()
		again, err := selector.Parse(printed)
		if err != nil || again.String() != printed || len(printed) > selector.MaxLength {
			t.Fatalf("%q prints as %q, which reads as %q, %v", text, printed, again, err)
		}
		if a, b := s.Selection(), again.Selection(); a.Path != b.Path {
			t.Fatalf("%q compiles to %s and %s", text, a.Path, b.Path)
		}
	})
}
