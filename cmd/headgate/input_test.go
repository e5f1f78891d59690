package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// The same rule for the value of a feature wherever one is given, and never Postgres' words.
func TestANumberOfAFeatureIsBounded(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	c.ok("feature", "set", "seats", "--type", "number")
	for _, text := range []string{"null", "1e99999", "1e131071", "-1e41", "0e99999", "1 2", strings.Repeat("9", 41)} {
		for _, args := range [][]string{
			{"feature", "set", "seats", "--default=" + text},
			{"tenant", "feature", "acme", "seats=" + text},
			{"plan", "set", "pro", "--feature", "seats=" + text},
		} {
			c.fails(cli.ExitUsage, args, "it is a number: give one as 12 or 0.5, of up to 40 characters")
		}
		table := filepath.Join(t.TempDir(), "tenants.csv")
		require.NoError(t, os.WriteFile(table, []byte("slug,feature.seats\nacme,"+text+"\n"), 0o600))
		c.fails(cli.ExitUsage, []string{"tenant", "import", table}, "it is a number: give one as 12 or 0.5, of up to 40 characters")
	}
	c.ok("tenant", "feature", "acme", "seats=1e39")
}
