package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// withKeyFile keeps the ring of a command line in a file.
func withKeyFile(t *testing.T, c *commandLine, key string) (*commandLine, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(key+"\n"), 0o600))
	filed := c.with("HEADGATE_KEY", "")
	filed.set("HEADGATE_KEY_FILE", file)
	return filed, file
}

// ringIDs are the ids of the keys in a text; the command line must show none of the keys.
func ringIDs(t *testing.T, c *commandLine, text string) []string {
	t.Helper()
	list, err := catalog.ParseKeyList(address.NewSecret(text))
	require.NoError(t, err)
	for _, entry := range strings.Fields(list.Text(true).Reveal()) {
		_, key, _ := strings.Cut(entry, ":")
		c.secrets = append(c.secrets, key)
	}
	return list.IDs()
}

func fileIDs(t *testing.T, c *commandLine, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return ringIDs(t, c, string(text))
}

// A rotation of a key file from its first command to its last, as the sentences say it.
// A process that was started before goes on: it reads the file again by itself.
func TestKeyRotationInAFile(t *testing.T) {
	t.Parallel()
	plain, env := setup(t)
	c, file := withKeyFile(t, plain, env.Key)
	db := env.Database("db", jobstest.DatabaseOpts{})
	env.Tenant("acme", "db")
	serve := c.start("serve", "--reports", t.TempDir())
	serve.err.await(t, "msg=ready")
	first := fileIDs(t, c, file)[0]

	r := c.run("key", "add")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Equal(t, []string{first, "k1"}, fileIDs(t, c, file))
	require.Contains(t, r.err, "then `headgate key promote k1`")
	require.Contains(t, c.ok("key", "promote", "k1"), "k1, "+first)
	require.Equal(t, []string{"k1", first}, fileIDs(t, c, file))
	require.Contains(t, c.ok("key", "list"), "first: it seals")
	c.fails(cli.ExitConflict, []string{"key", "retire", first}, "3 values are sealed with "+first, "`headgate key rekey`")
	c.fails(cli.ExitConflict, []string{"key", "retire", "k1"}, "k1 is the ring's first key")

	require.Contains(t, c.run("key", "rekey", "--dry-run").err, "nothing was changed: a dry run")
	r = c.run("key", "rekey")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "everything is sealed with k1")

	// The process that runs has never been told of k1.
	require.Equal(t, jobs.Succeeded, ranOnce(t, c, env, "acme"))

	require.Contains(t, c.run("key", "retire", first, "--dry-run").err, "nothing was changed: a dry run")
	require.Contains(t, c.ok("key", "retire", first), "k1")
	require.Equal(t, []string{"k1"}, fileIDs(t, c, file))
	require.Equal(t, []string{first}, fileIDs(t, c, file+".retired"))
	c.ok("key", "retire", first)
	require.Equal(t, []string{first}, fileIDs(t, c, file+".retired"), "once")
	c.ok("key", "verify")
	require.Equal(t, jobs.Succeeded, ranOnce(t, c, env, "acme"))

	// The old ring is in nobody's way, and cannot be taken for the right one.
	require.ErrorIs(t, env.Catalog.Logins().Set(context.Background(), "db", jobs.LoginJob, db.Job), catalog.ErrRetiredKey)
	plain.fails(cli.ExitUsage, []string{"serve"}, "the key ring opens nothing", "`headgate key list` names its keys")
	c.fails(cli.ExitUsage, []string{"key", "add", first}, "an id names one key for ever")
	require.Equal(t, cli.ExitOK, serve.end())
}

// ranOnce is how a job of a tenant ends.
func ranOnce(t *testing.T, c *commandLine, env *jobstest.Env, tenant string) jobs.State {
	t.Helper()
	var job struct{ UID string }
	out := c.ok("job", "enqueue", "headgate.sql", "--tenant", tenant, "--args", `{"statements": [{"sql": "select 1"}]}`, "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(out), &job))
	return env.Wait(job.UID).State
}

// A ring in a variable is changed by nobody but who sets it: its value comes on stdout,
// only when it is asked for, and alone.
func TestKeyRotationInAVariable(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{})
	for _, args := range [][]string{{"key", "add"}, {"key", "promote", "k1"}, {"key", "retire", "test"}} {
		c.fails(cli.ExitUsage, args, "HEADGATE_KEY, which no command can change", "--print")
	}
	printed := func(c *commandLine, args ...string) *commandLine {
		open := *c
		open.secrets = nil
		out := open.ok(append(args, "--print")...)
		require.Equal(t, 1, strings.Count(out, "\n"))
		next := c.with("HEADGATE_KEY", strings.TrimSpace(out))
		ringIDs(t, next, out)
		return next
	}
	ids := func(c *commandLine) []string { return ringIDs(t, c, c.lookup("HEADGATE_KEY")) }
	first := ids(c)[0]
	added := printed(c, "key", "add", "next")
	require.Equal(t, []string{first, "next"}, ids(added))
	promoted := printed(added, "key", "promote", "next")
	require.Equal(t, []string{"next", first}, ids(promoted))
	promoted.ok("key", "rekey")
	retired := printed(promoted, "key", "retire", first)
	require.Equal(t, []string{"next"}, ids(retired))
	retired.ok("key", "verify")
	c.fails(cli.ExitUsage, []string{"key", "verify", "--names", "-1"}, `--names: "-1" does not fit`)
	require.Equal(t, cli.ExitFailed, c.run("key", "verify").code)
}

// lookup is the value of a variable.
func (c *commandLine) lookup(name string) (value string) {
	for _, entry := range c.environ {
		if key, v, _ := strings.Cut(entry, "="); key == name {
			value = v
		}
	}
	return value
}

func TestKeyCommandsRefuse(t *testing.T) {
	t.Parallel()
	plain, env := setup(t)
	c, file := withKeyFile(t, plain, env.Key)
	for says, args := range map[string][]string{
		"ID is missing":               {"key", "promote"},
		"--print: the ring is":        {"key", "add", "--print"},
		"give up to 32 lower-case":    {"key", "add", "K 2"},
		"takes [ID] and no more":      {"key", "add", "a", "b"},
		"--wait is 0s":                {"key", "rekey", "--wait", "0s"},
		"--names is 10001":            {"key", "rekey", "--names", "10001"},
		`unknown command "rotate"`:    {"key", "rotate"},
		"both HEADGATE_KEY and HEADG": nil,
	} {
		if args == nil {
			plain.with("HEADGATE_KEY_FILE", file).fails(cli.ExitUsage, []string{"key", "add"}, says)
			continue
		}
		c.fails(cli.ExitUsage, args, says)
	}
	c.fails(cli.ExitNotFound, []string{"key", "promote", "k9"}, `the key ring has no key "k9"`)
	c.fails(cli.ExitNotFound, []string{"key", "retire", "k9"}, `the key ring has no key "k9"`)
	link := file + ".link"
	require.NoError(t, os.Symlink(file, link))
	c.with("HEADGATE_KEY_FILE", link).fails(cli.ExitFailed, []string{"key", "add"}, "is a symbolic link")
	before := fileIDs(t, c, file)
	require.Equal(t, 1, len(before), "nothing was written")
	require.Contains(t, c.with("HEADGATE_KEY_FILE", "").run("key", "list").err, "there is no key")
}

// Another key of the same id is no good ring: doctor, serve and verify say so.
func TestAnotherKeyOfTheSameID(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{})
	id := ringIDs(t, c, env.Key)[0]
	wrong := c.with("HEADGATE_KEY", catalog.NewKey(id).Reveal())
	found := examined(t, wrong, cli.ExitFailed)
	require.NotContains(t, fmt.Sprint(found), "it answers for none", "nobody has asked the server, so nobody knows whether it answers")
	told := finds(t, found, "keys", "key "+id, doctor.StateFail)
	require.Contains(t, told.Says, "addresses that do not open: 3 of 3 that were tried (job_login of db: it is not what was sealed")
	for _, command := range []string{"serve", "worker"} {
		wrong.fails(cli.ExitUsage, []string{command, "--reports", t.TempDir()}, "the key ring opens nothing: none of 3 sealed values of this central database, with its keys "+id)
	}
	r := wrong.run("key", "verify", "--names", "1", "-o", "json")
	require.Equal(t, cli.ExitFailed, r.code)
	var verified catalog.Verified
	require.NoError(t, json.Unmarshal([]byte(r.out), &verified))
	require.Equal(t, []int{3, 0, 3, 1}, []int{verified.Values, verified.Opened, verified.Failed, len(verified.Bad)})
	require.Contains(t, r.err, "and 2 more; --names N names more of them")

	// What doctor advises, carried out.
	other := catalog.NewKey("other").Reveal()
	c.with("HEADGATE_KEY", other).fails(cli.ExitUsage, []string{"serve"}, "`headgate database login --key-lost`")
	require.Contains(t, finds(t, examined(t, c.with("HEADGATE_KEY", other), cli.ExitFailed), "keys", "key "+id, doctor.StateFail).Next, "behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE)")
	both := c.with("HEADGATE_KEY", other+","+env.Key)
	finds(t, examined(t, both, cli.ExitOK), "keys", "key "+id, doctor.StateOK)
}

// A ring whose first key is retired can seal nothing, until doctor's advice is carried out.
func TestTheFirstKeyIsRetired(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	first := ringIDs(t, c, env.Key)[0]
	c.secrets = nil // --print shows the ring
	_, err := env.Pool.Exec(t.Context(), `INSERT INTO headgate.keys (id, state, retired_at) VALUES ($1, 'retired', now()) ON CONFLICT (id) DO UPDATE SET state = 'retired', retired_at = now()`, first)
	require.NoError(t, err)
	told := finds(t, examined(t, c, cli.ExitFailed), "keys", "key "+first, doctor.StateFail)
	require.Contains(t, told.Says, "no address can be stored")
	ring := strings.TrimSpace(c.ok(append(advice(t, told.Next, 0, nil), "k9", "--print")...))
	c = c.with("HEADGATE_KEY", ring)
	ring = strings.TrimSpace(c.ok(append(advice(t, told.Next, 1, map[string]string{"ID": "k9"}), "--print")...))
	found := examined(t, c.with("HEADGATE_KEY", ring), cli.ExitOK)
	require.False(t, slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Check == "key "+first }))
}

// A ring that opens nothing of a database sealed its new address, and its workers waited for
// a key that nobody had. Where every copy of a key is lost, a flag says so.
func TestAnotherRingSealsNoAddress(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstest.DatabaseOpts{})
	env.Tenant("acme", "db")
	c.secrets = append(c.secrets, db.Job.Password.Reveal(), db.Owner.Password.Reveal())
	other := c.with("HEADGATE_KEY", catalog.NewKey("other").Reveal()).with("HEADGATE_JOB_URL", loginURL(db.Job)).with("HEADGATE_OWNER_URL", loginURL(db.Owner))
	other.fails(cli.ExitUsage, []string{"database", "login", "db"}, "the key ring opens neither address of db", "--key-lost")
	work(env)
	require.Equal(t, jobs.Succeeded, ranOnce(t, c, env, "acme"), "nothing was changed")
	other.ok("database", "login", "db", "--key-lost")
	other.ok("database", "login", "db") // it opens both now
	r := c.run("key", "verify")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.err, "sealed values that do not open: 3 of 3")
}
