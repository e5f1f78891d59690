package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// A list of removed tenants by what they have no more was empty without a word, and who asked
// for a removed tenant was sent to a list that has none.
func TestRemovedTenantsAreFound(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	const removed = "`headgate tenant list --status removed` shows"
	require.Contains(t, c.run("tenant", "list").err, removed)
	require.Contains(t, c.run("tenant", "list", "--status", "removed").err, "no tenant was removed: `headgate tenant list` shows")
	c.ok("tenant", "add", "acme", "--database", "db", "--plan", "pro")
	acme, err := env.Catalog.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	c.ok("tenant", "remove", "acme", "--yes")
	require.Contains(t, c.run("tenant", "list").err, removed, "all are removed")
	for _, more := range [][]string{nil, {"--database", "db"}, {"--limit", "1"}} {
		require.Regexp(t, `(?m)^`+acme.ID+` +1 +acme `, c.ok(append([]string{"tenant", "list", "--status", "removed"}, more...)...))
	}
	c.fails(cli.ExitUsage, []string{"tenant", "list", "--status", "removed", "--select", "plan = pro"}, "an expression selects no removed tenant; leave --select out")
	c.fails(cli.ExitUsage, []string{"tenant", "list", "--status", "removed", "--plan", "pro"}, "a removed tenant has no plan any more; leave --plan out")
	for _, args := range [][]string{{"tenant", "resume", "1"}, {"tenant", "set", acme.ID, "--plan", "free"}, {"tenant", "domain", "add", "1", "acme.example"}, {"tenant", "email", "add", "1", "acme.example"}, {"tenant", "rename", "1", "acme-2"}} {
		c.fails(cli.ExitNotFound, args, "was removed", removed+" those")
	}
}
