package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// otherHosts are another host that leads to the same server as a host, and one that leads nowhere.
func otherHosts(t *testing.T, host string) (same, silent string) {
	t.Helper()
	if !strings.HasPrefix(host, "/") {
		return map[bool]string{true: "127.0.0.1", false: "localhost"}[host == "localhost"], "127.0.0.77"
	}
	dir := t.TempDir()
	same, silent = filepath.Join(dir, "same"), filepath.Join(dir, "silent")
	require.NoError(t, os.Symlink(host, same))
	require.NoError(t, os.Mkdir(silent, 0o700))
	return same, silent
}

// A dry run of another host tries the host as the run does, and is refused as the run is. The
// dry run used to promise what the run then refused.
func TestADryRunOfAnotherHostTriesTheHost(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.secrets = append(c.secrets, db.Job.Password.Reveal())
	show := func() string { return c.ok("server", "show", jobstest.Server, "-o", "json") }
	before := show()
	same, silent := otherHosts(t, db.Job.Host)
	args := []string{"server", "host", "replace", jobstest.Server, db.Job.Host, silent}
	refused := c.run(args...)
	require.Equal(t, cli.ExitUnreachable, refused.code, refused.err)
	require.Contains(t, refused.err, "does not answer")
	require.Equal(t, refused, c.run(append(args, "--dry-run")...))
	require.Equal(t, before, show())

	args[len(args)-1] = same
	dry := c.run(append(args, "--dry-run")...)
	require.Zero(t, dry.code, dry.err)
	require.Contains(t, dry.err, "tried with database db")
	require.Contains(t, dry.err, "nothing was changed: a dry run of 1 tenant")
	require.Equal(t, before, show())
	real := c.run(args...)
	require.Zero(t, real.code, real.err)
	require.Equal(t, real.out, dry.out)
	require.NotEqual(t, before, show())
	args[4], args[5] = same, silent
	require.Equal(t, cli.ExitUnreachable, c.run(append(args, "--dry-run")...).code)
}

// A host is tried in whatever notation the command line names the old one. In another notation
// than the addresses have, no address named the old host, and nothing was tried.
func TestAHostIsTriedInEachNotationOfTheOldOne(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	ctx := context.Background()
	_, err := env.Catalog.AddServer(ctx, catalog.ServerParams{Name: "own", Hosts: []string{"localhost"}, Transport: address.PlainLoopback})
	require.NoError(t, err)
	login := func(user string) address.Address {
		return address.Address{Host: "localhost", Port: 1, Database: "away", User: user, Password: address.NewSecret("S3cret")}
	}
	_, err = env.Catalog.AddDatabase(ctx, catalog.DatabaseParams{Name: "away", Server: "own", Kind: catalog.KindDedicated, Job: login("j"), Owner: login("o"), SigningKey: catalog.NewSigningKey()})
	require.NoError(t, err)
	for _, old := range []string{"localhost", "LocalHost", "localhost."} {
		r := c.run("server", "host", "replace", "own", old, "127.0.0.1")
		require.Equal(t, cli.ExitUnreachable, r.code, "%s: %s", old, r.err)
	}
}

// A database that is gone or refuses its login does not keep a server's new host from being
// tried with another one. A server none of whose databases can be asked is refused.
func TestAHostIsTriedPastADatabaseThatIsGone(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	same, _ := otherHosts(t, db.Job.Host)
	add := func(name, state string, change func(a *address.Address)) {
		job, owner := db.Job, db.Owner
		job.Database, owner.Database = name, name
		change(&job)
		_, err := env.Catalog.AddDatabase(t.Context(), catalog.DatabaseParams{Name: name, Server: jobstest.Server, Kind: catalog.KindDedicated, Job: job, Owner: owner, SigningKey: catalog.NewSigningKey()})
		require.NoError(t, err)
		if state == "detached" {
			c.ok("database", "detach", name, "--reason", "it is gone")
		}
	}
	add("aaa", "detached", func(*address.Address) {})
	add("aab", "attached", func(*address.Address) {})
	add("aac", "attached", func(a *address.Address) { a.Password = address.NewSecret("S3cret-of-before") })
	c.secrets = append(c.secrets, db.Job.Password.Reveal(), "S3cret-of-before")
	args := []string{"server", "host", "replace", jobstest.Server, db.Job.Host, same, "--dry-run"}
	r := c.run(args...)
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "tried with database db")

	c.ok("database", "detach", "db", "--reason", "another one is asked first")
	_, err := env.Pool.Exec(t.Context(), `DELETE FROM headgate.tenants`)
	require.NoError(t, err)
	c.ok("database", "remove", "db")
	r = c.run(args...)
	require.Equal(t, cli.ExitUnreachable, r.code, r.err)
	require.Contains(t, r.err, "the server has no such database")
}
