package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// A dry run of an adoption is refused what the run would be: the owner login of a database
// that was made anew has no right to make schemas there. What the refusal advises mends it, and
// the dry run leaves nothing behind.
func TestADryRunOfAnAdoptionNeedsTheRightsOfTheRun(t *testing.T) {
	t.Parallel()
	a, db := accident(t)
	name := db.Job.Database
	db.Pool.Reset()
	admin(t, "postgres", fmt.Sprintf(`DROP DATABASE "%s" WITH (FORCE)`, name), fmt.Sprintf(`CREATE DATABASE "%s" TEMPLATE template0`, name),
		fmt.Sprintf(`GRANT CONNECT ON DATABASE "%s" TO "%s", "%s"`, name, db.Owner.User, db.Job.User))
	run := []string{"database", "reattach", "db", "--adopt"}
	dry := slices.Concat(run, []string{"--dry-run"})
	refused := a.fails(cli.ExitNotPermitted, dry, "the run would fail", "permission denied for database", "nothing was changed")
	a.fails(cli.ExitNotPermitted, run, "permission denied for database")
	_, advice, found := strings.Cut(refused, "have the database's owner run ")
	require.True(t, found, refused)
	advice, _, _ = strings.Cut(advice, ", and run")
	admin(t, name, advice)
	require.Contains(t, a.ok(append(dry, "-o", "json")...), `"dry_run": true`)
	require.Empty(t, ask(t, name, "SELECT to_regnamespace('headgate')"), "the rehearsal was undone")
	a.ok(run...)
	require.Equal(t, db.ID, ask(t, name, "SELECT database_id FROM headgate.identity"))
	a.ok(dry...)
	require.Equal(t, db.ID, ask(t, name, "SELECT database_id FROM headgate.identity"))
}

// A database that an import has entered has no schema until somebody installs one: what explain
// advises about a job there does that, and the job runs.
func TestWhatHelpsADatabaseWithoutHeadgate(t *testing.T) {
	t.Parallel()
	a, db := accident(t)
	name := db.Job.Database
	db.Pool.Reset()
	admin(t, "postgres", fmt.Sprintf(`DROP DATABASE "%s" WITH (FORCE)`, name), fmt.Sprintf(`CREATE DATABASE "%s" OWNER "%s" TEMPLATE template0`, name, db.Owner.User))
	next := a.broken().Next
	_, command, found := strings.Cut(next, "if an import has entered it and Headgate was never installed there: `headgate ")
	require.True(t, found, next)
	command, _, _ = strings.Cut(command, "`")
	a.ok(strings.Fields(command)...)
	a.mended()
}
