package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// loginURL writes an address as people give it.
func loginURL(a address.Address) string {
	return fmt.Sprintf("host='%s' port=%d user=%s password=%s dbname=%s sslmode=%s", a.Host, a.Port, a.User, a.Password.Reveal(), a.Database, a.SSLMode)
}

// wrongPassword makes the catalog's job login a wrong one.
func (a *adviser) wrongPassword(name string, db *jobstest.Database) {
	a.t.Helper()
	wrong := db.Job
	wrong.Password = address.NewSecret("planted-wrong")
	require.NoError(a.t, a.env.Catalog.Logins().Set(context.Background(), name, jobs.LoginJob, wrong))
	a.secrets = append(a.secrets, "planted-wrong", db.Job.Password.Reveal())
}

// What doctor says to do about databases, keys and poolers is done, and the finding is
// gone.
func TestWhatDoctorAdvisesOfDatabasesHelps(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	db := a.env.Database("wrong", jobstest.DatabaseOpts{})
	a.wrongPassword("wrong", db)
	told := finds(t, examined(t, a.commandLine, cli.ExitFailed), "database wrong", "job login", doctor.StateFail)
	a.with("HEADGATE_JOB_URL", loginURL(db.Job)).ok(command(t, told.Next)...)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "database wrong", "job login", doctor.StateOK)

	admin(t, "postgres", "ALTER ROLE "+db.Job.User+" BYPASSRLS")
	told = finds(t, examined(t, a.commandLine, cli.ExitFailed), "database wrong", "isolation", doctor.StateFail)
	admin(t, "postgres", told.Next)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "database wrong", "isolation", doctor.StateOK)
	admin(t, "postgres", "ALTER ROLE "+db.Job.User+" SUPERUSER")
	told = finds(t, examined(t, a.commandLine, cli.ExitFailed), "database wrong", "isolation", doctor.StateFail)
	other := db.Job
	other.User += "2"
	admin(t, "postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE headgate_job", other.User, other.Password.Reveal()))
	t.Cleanup(func() { admin(t, "postgres", "DROP ROLE "+other.User) })
	a.with("HEADGATE_JOB_URL", loginURL(other)).ok(command(t, told.Next)...)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "database wrong", "isolation", doctor.StateOK)

	if !jobstest.Bounced() {
		a.ok("server", "set", jobstest.Server, "--pooler", "session")
		told = finds(t, examined(t, a.commandLine, cli.ExitOK), "server "+jobstest.Server, "pooler", doctor.StateWarn)
		a.ok(command(t, told.Next)...)
		finds(t, examined(t, a.commandLine, cli.ExitOK), "server "+jobstest.Server, "pooler", doctor.StateOK)
	}

	other2 := catalog.NewKey("other").Reveal()
	foreign := a.with("HEADGATE_KEY", other2)
	told = finds(t, examined(t, foreign, cli.ExitFailed, "--databases", "0"), "keys", "key test", doctor.StateFail)
	require.Contains(t, told.Next, "behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE)")
	both := a.with("HEADGATE_KEY", other2+","+a.env.Key)
	finds(t, examined(t, both, cli.ExitOK), "keys", "key test", doctor.StateOK)
}

// Of two databases of a server that have one job login doctor warns until one has its own.
func TestDatabasesOfOneLoginAreGivenTheirOwn(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	one, two := env.Database("one", jobstest.DatabaseOpts{}), env.Database("two", jobstest.DatabaseOpts{})
	c.secrets = append(c.secrets, one.Job.Password.Reveal(), two.Job.Password.Reveal())
	shared := func() []doctor.Finding {
		return slices.DeleteFunc(examined(t, c, cli.ExitOK), func(f doctor.Finding) bool { return f.Check != "job logins" })
	}
	require.Empty(t, shared(), "the control: each has its own")
	same := one.Job
	same.Database = two.Job.Database
	c.with("HEADGATE_JOB_URL", loginURL(same)).ok("database", "login", "two")
	told := finds(t, shared(), "server "+jobstest.Server, "job logins", doctor.StateWarn)
	require.Contains(t, told.Says, "databases one and two have one job login")
	require.Contains(t, told.Next, "CREATE ROLE … LOGIN PASSWORD … IN ROLE headgate_job") // two's role is there still
	c.with("HEADGATE_JOB_URL", loginURL(two.Job)).ok(command(t, told.Next)...)
	require.Empty(t, shared())
}

// A central database without a schema gets it by what doctor says.
func TestDoctorAdvisesToMigrate(t *testing.T) {
	t.Parallel()
	_, empty := emptyDatabase(t)
	c := newCLI(t, empty)
	told := finds(t, examined(t, c, cli.ExitFailed), "central", "schema", doctor.StateFail)
	c.ok(command(t, told.Next)...)
	finds(t, examined(t, c, cli.ExitOK), "central", "schema", doctor.StateOK)
}

// Jobs that are held go on, without an attempt used, after what explain says to do.
func TestWhatExplainAdvisesOfHeldJobsHelps(t *testing.T) {
	t.Parallel()
	for class, c := range map[jobs.Class]struct {
		breaks func(*adviser, *jobstest.Database)
		mends  func(*adviser, *jobstest.Database, explain.Fact)
	}{
		jobs.ClassAuthFailed: {
			func(a *adviser, db *jobstest.Database) { a.wrongPassword("own", db) },
			func(a *adviser, db *jobstest.Database, f explain.Fact) {
				a.with("HEADGATE_JOB_URL", loginURL(db.Job)).ok(command(a.t, f.Next)...)
			},
		},
		jobs.ClassNotPermitted: {
			func(a *adviser, db *jobstest.Database) {
				admin(a.t, db.Job.Database, `REVOKE SELECT ON orders FROM headgate_job`)
			},
			func(a *adviser, db *jobstest.Database, f explain.Fact) {
				table := regexp.MustCompile(`permission denied for table (\w+)`).FindStringSubmatch(f.Fact)
				require.NotNil(a.t, table, f.Fact)
				require.Contains(a.t, f.Next, "what the message says")
				require.Contains(a.t, f.Fact, "GRANT the privilege on the object that the message names TO headgate_job")
				admin(a.t, db.Job.Database, `GRANT SELECT ON `+table[1]+` TO headgate_job`)
			},
		},
	} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			a := newAdviser(t)
			db := a.env.Database("own", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE orders (n int); GRANT SELECT ON orders TO headgate_job`})
			a.env.Tenant("zeta", "own")
			c.breaks(a, db)
			w := a.start("worker", "--reports", t.TempDir())
			uid := enqueued(t, a.ok("job", "enqueue", "headgate.report", "--tenant", "zeta", "--args", `{"name": "x", "query": "SELECT n FROM orders"}`, "-o", "json"))
			a.env.WaitFor(uid, func(o jobs.Outcome) bool { return o.Class == class })
			held, is := a.has(uid, explain.CodeLastAttempt)
			require.True(t, is, "%v", a.facts(uid))
			require.Contains(t, a.ok("tenant", "explain", "zeta"), "1 job is held: the last attempt ended as "+string(class))
			c.mends(a, db, held)
			now, is := a.has(uid, explain.CodeNotDue)
			require.True(t, is, "%v", a.facts(uid))
			a.ok(command(t, now.Next)...)
			last := a.env.Wait(uid)
			require.Equal(t, jobs.Succeeded, last.State, last.Message)
			require.Equal(t, 1, last.Attempt)
			require.Equal(t, cli.ExitOK, w.end(), strings.TrimSpace(w.err.String()))
		})
	}
}

// A login that was mended at the server is one that workers remember as refused: explain says
// so beside its `job retry`, with the command that makes them try again.
func TestAMendedLoginIsTriedAgainAfterWhatExplainAdvises(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	db := a.env.Database("own", jobstest.DatabaseOpts{Kind: "dedicated"})
	a.env.Tenant("zeta", "own")
	a.secrets = append(a.secrets, db.Job.Password.Reveal())
	admin(t, "postgres", `ALTER ROLE `+db.Job.User+` NOLOGIN`)
	w := a.start("worker", "--reports", t.TempDir())
	uid := enqueued(t, a.ok("job", "enqueue", "headgate.report", "--tenant", "zeta", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
	refusedTimes := func() int {
		var times int
		require.NoError(t, a.env.Pool.QueryRow(context.Background(), `SELECT coalesce((metadata -> 'held' ->> 'times')::int, 0) FROM river_job WHERE id = $1`, a.env.RowOf(uid)).Scan(&times))
		return times
	}
	require.Eventually(t, func() bool { return refusedTimes() == 1 }, time.Minute, 20*time.Millisecond)
	admin(t, "postgres", `ALTER ROLE `+db.Job.User+` LOGIN`)

	now, is := a.has(uid, explain.CodeNotDue)
	require.True(t, is, "%v", a.facts(uid))
	retry, mend, found := strings.Cut(now.Next, "runs it now, but workers try a login that was refused again only after ")
	require.True(t, found, now.Next)
	a.ok(command(t, retry)...)
	require.Eventually(t, func() bool { return refusedTimes() == 2 }, time.Minute, 20*time.Millisecond, "the control: the refusal is remembered")
	a.with("HEADGATE_JOB_URL", loginURL(db.Job)).ok(command(t, mend)...)
	a.ok(command(t, retry)...)
	last := a.env.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, cli.ExitOK, w.end(), strings.TrimSpace(w.err.String()))
}
