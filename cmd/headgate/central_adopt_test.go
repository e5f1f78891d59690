package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// A database that another central database works is named by doctor, with the command
// that takes it over; the command says how much that is and asks when it is much.
func TestCentralAdopt(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	c.set("USER", "ana")
	one := env.Database("one", jobstest.DatabaseOpts{})
	env.Database("two", jobstest.DatabaseOpts{})
	env.Tenant("acme", "one")
	_, err := one.Pool.Exec(context.Background(), `UPDATE headgate.identity SET centre = '1/2/3'`)
	require.NoError(t, err)
	for _, login := range []string{"job login", "owner login"} {
		found := finds(t, examined(t, c, cli.ExitFailed), "database one", login, doctor.StateFail)
		require.Contains(t, found.Says, "it bears the mark 1/2/3")
		require.Contains(t, found.Next, "`headgate central adopt --database one`")
	}

	c.fails(cli.ExitUsage, []string{"central", "adopt"}, "give one of --database and --all")
	c.fails(cli.ExitUsage, []string{"central", "adopt", "--all", "--database", "one"}, "give one of --database and --all")
	c.fails(cli.ExitNotFound, []string{"central", "adopt", "--database", "three"}, "three")
	golden(t, "central_adopt_dry", c.ok("central", "adopt", "--all", "--dry-run", "-o", "json"))
	examined(t, c, cli.ExitFailed)
	require.Equal(t, "0", ask(t, nameOfCentral(t, env), `SELECT count(*) FROM headgate.adoptions`))

	golden(t, "central_adopt", c.ok("central", "adopt", "--database", "one", "-o", "json"))
	examined(t, c, cli.ExitOK)
	require.Equal(t, "ana", ask(t, nameOfCentral(t, env), `SELECT string_agg(actor, ' ') FROM headgate.adoptions`))
	for i := range cli.ManyTenants {
		env.Tenant(fmt.Sprintf("t%d", i), "two")
	}
	c.fails(cli.ExitUsage, []string{"central", "adopt", "--all"}, "all databases hold 51 tenants; pass --confirm 51 (nothing was changed)")
	require.Equal(t, "1", ask(t, nameOfCentral(t, env), `SELECT count(*) FROM headgate.adoptions`))
	_, err = env.Pool.Exec(context.Background(), `UPDATE headgate.centre SET mark = '1/2/3'`) // as in a copy
	require.NoError(t, err)
	found := finds(t, examined(t, c, cli.ExitFailed), "central", "mark", doctor.StateFail)
	require.Equal(t, "`headgate central adopt --all`", found.Next)
	c.ok("central", "adopt", "--all", "--confirm", "51")
	examined(t, c, cli.ExitOK)
	require.Equal(t, "2", ask(t, nameOfCentral(t, env), `SELECT count(*) FROM headgate.adoptions`))
}

func nameOfCentral(t *testing.T, env *jobstest.Env) (name string) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT current_database()`).Scan(&name))
	return name
}
