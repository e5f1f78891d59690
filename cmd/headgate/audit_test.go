package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// A pause stands in the audit as what it pauses, and not as a UUID.
func TestTheAuditNamesWhatAPausePauses(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.ok("pause", "tenant", "acme", "--note", "invoice 4711")
	c.ok("pause", "kind", "app.report")
	c.ok("pause", "server", jobstest.Server)
	c.ok("resume", "server", jobstest.Server)
	said := c.ok("audit", "list", "--object", "pause")
	for _, heading := range []string{" add pause tenant acme (invoice 4711)\n", " add pause kind app.report\n", " add pause server " + jobstest.Server + "\n", " remove pause server " + jobstest.Server + "\n"} {
		require.Contains(t, said, heading)
	}
	require.NotRegexp(t, `[0-9a-f]{8}-[0-9a-f]{4}`, said)
}

// What no entry is like is said, and not answered by an empty list.
func TestAnAuditOfNothingSaysWhy(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.fails(cli.ExitUsage, []string{"audit", "list", "--object", "pauses"}, `--object: "pauses" is not one of adoption, `, "tenant limit", "did you mean pause?")
	c.fails(cli.ExitUsage, []string{"audit", "list", "--since", "1h", "--until", "2h"}, "until", "give a time later than since")
	r := c.run("audit", "list", "--object", "region", "--by", "ines")
	require.Equal(t, result{err: "no change is like that (--object \"region\", --by \"ines\"): leave one of these out, or have all of the last 13 months by `headgate audit list`\n"}, r)
}

// Who imports or syncs by the command line, and why, stands in each entry.
func TestAnImportsReasonReachesTheAudit(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	file := filepath.Join(t.TempDir(), "tenants.csv")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("slug,domains\nacme,acme.example\nbrick,\n")
	c.set("USER", "ines")
	c.ok("tenant", "sync", file, "--database", "db", "--reason", "ticket 7")
	write("slug\nacme\n")
	c.ok("tenant", "sync", file, "--reason", "ticket 8")
	write("slug,name\nacme,Acme\n")
	c.ok("tenant", "import", file, "--reason", "ticket 9")
	said := c.ok("audit", "list", "--by", "ines")
	require.Regexp(t, `ines \(login [^)]+\) add domain acme acme.example \(ticket 7\)`, said)
	require.Regexp(t, `ines \(login [^)]+\) change tenant brick \(ticket 8\)\n.*status: "active" → "suspended"`, said)
	require.Regexp(t, `ines \(login [^)]+\) change tenant acme \(ticket 9\)`, said)
}
