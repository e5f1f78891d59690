package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// Databases that an import has entered had no schema, and nothing said so until jobs failed.
// What is said is carried out, and is gone then.
func TestADatabaseThatIsNotInstalledIsToldUntilItIs(t *testing.T) {
	t.Parallel()
	c, _, one := prepared(t)
	two := newSite(t, c)
	two.grant(t)
	var csv strings.Builder
	csv.WriteString("slug,database,db_host,db_port,db_name,db_user,db_password,owner_user,owner_password\n")
	for slug, s := range map[string]*site{"aa": one, "bb": two} {
		fmt.Fprintf(&csv, "%s,%s,%s,%d,%s,%s,%s,%s,%s\n", slug, "db-"+slug, s.host, s.port, s.dbname, s.job, s.jobPassword, s.owner, s.ownerPassword)
	}
	c.ok("tenant", "import", inFile(t, "own.csv", csv.String()))
	list := c.run("database", "list")
	require.Contains(t, list.err, "an import has entered 2 databases where Headgate's schema is not installed, so that their jobs fail: db-aa, db-bb")
	require.Equal(t, 2, strings.Count(list.out, " not installed "), list.out)
	narrow(t, "database list", list.out)
	require.Equal(t, []string{"database", "install", "--all"}, command(t, list.err))
	for _, show := range [][]string{{"database", "show", "db-aa"}, {"tenant", "show", "aa"}} {
		told := c.run(show...)
		require.Contains(t, told.err, "db-aa: an import has entered it, and Headgate's schema is not installed")
		require.Equal(t, []string{"database", "install", "db-aa"}, command(t, told.err))
	}
	c.ok("database", "install", "db-aa")
	for _, show := range [][]string{{"database", "show", "db-aa"}, {"tenant", "show", "aa"}} {
		require.NotContains(t, c.run(show...).err, "not installed")
	}
	list = c.run("database", "list")
	require.Equal(t, []string{"database", "install", "db-bb"}, command(t, list.err))
	c.ok(command(t, list.err)...)
	list = c.run("database", "list")
	require.NotContains(t, list.out+list.err, "not installed")
	require.Equal(t, 2, strings.Count(c.ok("database", "list"), " attached "))
	c.ok("server", "drain", jobstest.Server, "--reason", "new disks")
	require.Equal(t, 2, strings.Count(c.ok("database", "list"), " draining "), "the server's state is told where the database's own is against nothing")
	c.ok("database", "detach", "db-aa", "--reason", "it is moved")
	require.Equal(t, 1, strings.Count(c.ok("database", "list"), " detached "))
}
