package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// An expression says whom it selects before anything is made for it: how many, the first 20,
// and which of its names no tenant has. One that selects nobody is no failure.
func TestSelectorTestSaysWhom(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for i := range 23 {
		c.ok("tenant", "add", fmt.Sprintf("t%02d", i), "--database", "db", "--plan", "pro", "--label", "tier=gold")
	}
	c.ok("tenant", "add", "other", "--database", "db", "--plan", "free")
	for _, sql := range []string{
		`INSERT INTO headgate.features (name, type, default_value) VALUES ('beta', 'boolean', 'false'), ('seats', 'number', NULL)`,
		`UPDATE headgate.tenants SET features = '{"seats": 12}' WHERE slug = 't07'`,
		`UPDATE headgate.tenants SET status = 'archived' WHERE slug = 't22'`,
	} {
		_, err := env.Pool.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	test := func(expression string) (out, err string) {
		r := c.run("selector", "test", expression)
		require.Equal(t, cli.ExitOK, r.code, r.err)
		return r.out, r.err
	}
	out, said := test("plan=pro and not feature.beta")
	require.Contains(t, said, "plan = pro and not feature.beta selects 22 tenants; the first 20 are below\n")
	require.Contains(t, said, "note: 1 tenant that is archived or removed fits too: only lists select such tenants\n")
	require.Equal(t, 21, strings.Count(out, "\n"), out)
	golden(t, "selector_test", c.ok("selector", "test", "feature.seats >= 10 and plan in (pro, 'prro')", "-o", "json"))

	out, said = test("plan = prro or feature.bet or feature.seats = many or feature.seats or label.tier = silver or label.teir or region = eu or tenant = nobody or status = moving")
	require.Empty(t, out)
	for _, note := range []string{
		`no tenant has plan "prro" (did you mean pro?)`, `there is no feature bet (did you mean beta?)`, `feature seats is a number, and "many" is a string: the two never compare`,
		`feature seats is a number: alone it asks for true, and is never true`, `no tenant has label tier with the value "silver"`, `no tenant has label teir`,
		`no tenant has region "eu"`, `there is no tenant "nobody"`, `no tenant has status "moving"`,
	} {
		require.Contains(t, said, "note: "+note+"\n")
	}
	require.Contains(t, said, "status = moving selects no tenant now")
	_, said = test("all")
	require.Equal(t, "all selects 23 tenants; the first 20 are below\n", said)

	c.fails(cli.ExitUsage, []string{"selector", "test", "plna = pro"}, "EXPRESSION: selector, character 1: unknown attribute \"plna\" (did you mean plan?)")
	require.True(t, strings.HasPrefix(c.run("selector", "test", "plna = pro").err, "  plna = pro\n  ^^^^\nheadgate: EXPRESSION: selector"))
	c.fails(cli.ExitUsage, []string{"tenant", "list", "--select", "plan = a", "--select", "plan = b"}, "--select is given 2 times: give one expression, with and or or in it")
	require.Equal(t, "slug\nt07\n", cut(c.ok("tenant", "list", "--select", "feature.seats = 12.0", "-o", "csv")))
	require.Equal(t, "slug\nt22\n", cut(c.ok("tenant", "list", "--select", "status = archived", "-o", "csv")), "a list has them")
	r := c.run("tenant", "list", "--select", "plan = none")
	require.Equal(t, cli.ExitOK, r.code)
	require.Contains(t, r.err, "`headgate selector test EXPRESSION` says why")
}

// cut keeps the first column of csv.
func cut(csv string) (first string) {
	for line := range strings.Lines(csv) {
		column, _, _ := strings.Cut(line, ",")
		first += column + "\n"
	}
	return first
}
