package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// The known escapes, tried through each door by which SQL reaches a tenant's database:
// the kinds that take SQL, and handlers of each form. After each, another tenant's job runs
// on the same connection, which it finds as if nobody had been there.

// Whisper is a note that only its own tenant may read.
const whisper = jobstest.PlantedEmail

const whispers = schema + `;
CREATE TABLE notes (org_id bigint NOT NULL DEFAULT headgate.current_org(), body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON notes TO headgate_job USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO headgate_job`

// The doors.
const (
	bySQL     = "headgate.sql"
	byReport  = "headgate.report"
	byTx      = "escape"
	byReading = "escape-reading"
	byStep    = "escape-step"
	byConn    = "escape-conn"
)

// EscapeStep is an Escape in a step of a job outside a transaction, EscapeConn on its connection.
type (
	EscapeStep struct{ Escape }
	EscapeConn struct{ Escape }
)

func (EscapeStep) Kind() string { return byStep }
func (EscapeConn) Kind() string { return byConn }

func (EscapeStep) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 1, Idempotence: jobs.Chunked}
}

func (EscapeConn) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 1, Idempotence: jobs.Idempotent}
}

// through is a job that takes SQL through a door.
func through(door, sql string) jobs.Args {
	var args any = Escape{SQL: sql}
	switch door {
	case bySQL:
		args = map[string]string{"sql": sql}
	case byReport:
		args = map[string]string{"query": sql, "name": "escape"}
	}
	raw, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return rawArgs{door, string(raw)}
}

// Neighbour is a job of the other tenant, which forgot the organisation. It answers with
// all that it finds in its session.
type Neighbour struct{}

func (Neighbour) Kind() string { return "neighbour" }

const foundSQL = `
SELECT (SELECT string_agg(body, ',') FROM notes),
       CURRENT_USER = SESSION_USER,
       coalesce((SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
           WHERE source = 'session' AND name NOT IN ('application_name', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'client_connection_check_interval', 'idle_session_timeout')), ''),
       (SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()),
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
       (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
       (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)`

// found is what a Neighbour found, and the number of its session.
type found struct {
	session uint32
	state   string
}

func (p *prison) look(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Neighbour]) error {
	row, err := tx.Query(ctx, foundSQL)
	if err != nil {
		return err
	}
	values, err := pgx.CollectExactlyOneRow(row, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return err
	}
	p.found <- found{tx.Conn().PgConn().PID(), fmt.Sprintf("%q", values)}
	return nil
}

// outcomes hears from the worker's log how each attempt ended, which is sooner than the history.
type outcomes chan attempt

type attempt struct{ uid, said, class, state string }

func (outcomes) Enabled(context.Context, slog.Level) bool { return true }
func (e outcomes) WithAttrs([]slog.Attr) slog.Handler     { return e }
func (e outcomes) WithGroup(string) slog.Handler          { return e }

var stateIn = regexp.MustCompile(`SQLSTATE (\w{5})`)

func (e outcomes) Handle(_ context.Context, r slog.Record) error {
	a := attempt{said: r.Message}
	r.Attrs(func(attr slog.Attr) bool {
		switch attr.Key {
		case "job_uid":
			a.uid = attr.Value.String()
		case "class":
			a.class = attr.Value.String()
		case "error":
			if found := stateIn.FindStringSubmatch(attr.Value.String()); found != nil {
				a.state = found[1]
			}
		}
		return true
	})
	if a.uid != "" && strings.HasPrefix(a.said, "job ") {
		e <- a
	}
	return nil
}

// prison is a shared database with two tenants, and one worker with one connection to it.
type prison struct {
	t       *testing.T
	env     *jobstest.Env
	db      *jobstest.Database
	acme    int64
	brick   int64
	waiting string // the UID of a job of brick's that is not done yet
	stolen  string // the context of a job of brick's that has ended
	fresh   string // what a neighbour finds in a session that nobody has had
	found   chan found
	ends    outcomes
}

func newPrison(t *testing.T) *prison {
	env := jobstest.NewOn(t, jobstest.Direct(t))
	p := &prison{t: t, env: env, found: make(chan found, 1), ends: make(outcomes, 100), db: env.Database("shared", jobstest.DatabaseOpts{Schema: whispers, On: jobstest.Direct(t)})}
	p.acme, p.brick = env.Tenant("acme", "shared").OrgID, env.Tenant("brick", "shared").OrgID
	ctx := context.Background()
	_, err := p.db.Pool.Exec(ctx, `INSERT INTO notes VALUES ($1, 'acme was here'), ($2, $3)`, p.acme, p.brick, whisper)
	require.NoError(t, err)
	waiting, err := env.Client.Enqueue(ctx, "brick", Neighbour{}, &jobs.EnqueueOpts{RunAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	p.waiting = waiting.UID
	reports, err := report.OpenFolder(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = reports.Close() })
	cfg := env.Config()
	cfg.Logger, cfg.HoldFor = slog.New(p.ends), time.Hour // who misses a privilege waits for somebody to grant it
	cfg.Queues, cfg.Tenants.MaxConns, cfg.Tenants.IdleTimeout = map[string]int{"default": 1, jobs.BulkQueue: 1}, 1, time.Minute
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, sqlscript.Run)
		worker.ReadOnly(w, report.New(reports))
		worker.InTx(w, p.look)
		worker.InTx(w, escape)
		worker.InTx(w, stealing)
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[EscapeReading]) error {
			return plainly(ctx, tx.Conn(), job.Args.Escape)
		})
		worker.OnConn(w, func(ctx context.Context, _ *pgx.Conn, job *jobs.Job[EscapeStep]) error {
			return job.Step(ctx, "one", func(ctx context.Context, tx pgx.Tx) error { return plainly(ctx, tx.Conn(), job.Args.Escape) })
		})
		worker.OnConn(w, func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[EscapeConn]) error {
			return plainly(ctx, conn, job.Args.Escape)
		})
	})
	stole := env.Run("brick", Stealing{})
	require.Equal(t, jobs.Succeeded, stole.State, stole.Message)
	p.stolen = stole.Result.Output
	return p
}

// plainly sends SQL as pgx does where there are no parameters.
func plainly(ctx context.Context, conn *pgx.Conn, e Escape) error {
	_, err := conn.PgConn().Exec(ctx, e.SQL).ReadAll()
	return err
}

// Stealing answers with the job's own context.
type Stealing struct{}

func (Stealing) Kind() string { return "stealing" }

func stealing(ctx context.Context, tx pgx.Tx, job *jobs.Job[Stealing]) error {
	return tx.QueryRow(ctx, `SELECT current_setting('headgate.context')`).Scan(&job.Result.Output)
}

// stands is what no job of acme's may change or learn: brick's rows and its waiting job,
// Headgate's own rows, the roles, and which objects there are.
const stands = `
SELECT concat_ws(E'\n', (SELECT string_agg(n::text, ',' ORDER BY n::text) FROM notes n WHERE org_id <> $1 OR body ~ 'planted'),
    (SELECT count(*) FROM transfers WHERE org_id <> $1), (SELECT count(*) FROM headgate.ledger WHERE job_uid = $2 OR org_id = $4 AND state <> 'done'),
    (SELECT md5(string_agg(k::text, '')) FROM headgate.signing_key k), (SELECT string_agg(i::text, '') FROM headgate.identity i), (SELECT count(*) FROM headgate.fence),
    (SELECT string_agg(relname || relrowsecurity || coalesce(relacl::text, ''), ',' ORDER BY relname) FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'headgate'::regnamespace)),
    (SELECT string_agg(concat_ws(' ', a.rolname, a.rolpassword, a.rolvaliduntil, s.setconfig, m.roleid::regrole), ',' ORDER BY a.rolname, m.roleid)
     FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid LEFT JOIN pg_auth_members m ON m.member = a.oid
     WHERE a.rolname LIKE $3 || '%' OR a.rolname = 'headgate_job'))`

func (p *prison) stands() (text string) {
	p.t.Helper()
	require.NoError(p.t, p.db.Pool.QueryRow(context.Background(), stands, p.acme, p.waiting, p.db.Job.User, p.brick).Scan(&text))
	return text
}

// neighbour runs the other tenant's next job, and returns its session's number.
func (p *prison) neighbour(why string) uint32 {
	p.t.Helper()
	require.Equal(p.t, "job succeeded", p.end("brick", Neighbour{}).said, why)
	got := <-p.found
	require.Contains(p.t, got.state, whisper, why)
	if p.fresh == "" {
		p.fresh = got.state
	}
	require.Equal(p.t, p.fresh, got.state, why)
	return got.session
}

// end enqueues a job and waits until its first attempt has ended.
func (p *prison) end(tenant string, args jobs.Args) attempt {
	p.t.Helper()
	job, err := p.env.Client.Enqueue(context.Background(), tenant, args, &jobs.EnqueueOpts{MaxAttempts: 1})
	require.NoError(p.t, err)
	for {
		select {
		case a := <-p.ends:
			if a.uid == job.UID {
				return a
			}
		case <-time.After(2 * time.Minute):
			p.t.Fatalf("job %s of kind %s does not end", job.UID, args.Kind())
		}
	}
}

// fill writes the other tenant's values into an escape.
func (p *prison) fill(sql string) string {
	return strings.NewReplacer("$org", strconv.FormatInt(p.brick, 10), "$uid", p.waiting, "$context", p.stolen,
		"$login", pgx.Identifier{p.db.Job.User}.Sanitize()).Replace(sql)
}

// try runs one escape as a job of acme's, and says what became of it.
func (p *prison) try(door, sql string) string {
	p.t.Helper()
	got := p.end("acme", through(door, p.fill(sql)))
	switch {
	case got.said == "job succeeded":
		return "ok"
	case got.class == "escaped":
		return "escaped"
	case got.state == "28000" || strings.HasPrefix(got.state, "HG"):
		return got.state
	case got.state != "":
		return "postgres"
	case got.class == "":
		return "kind"
	}
	return got.class
}

// mend takes back what a job has changed of its login.
func (p *prison) mend() {
	p.t.Helper()
	_, err := p.db.Pool.Exec(context.Background(), p.fill(`ALTER ROLE $login PASSWORD '`+p.db.Job.Password.Reveal()+`'; ALTER ROLE $login RESET ALL;
ALTER ROLE $login IN DATABASE `+pgx.Identifier{p.db.Job.Database}.Sanitize()+` RESET ALL`))
	require.NoError(p.t, err)
}

// told is how often the history or the queue holds what only brick may know.
func (p *prison) told() (n int) {
	p.t.Helper()
	require.NoError(p.t, p.env.Pool.QueryRow(context.Background(), `
SELECT (SELECT count(*) FROM headgate.outcomes o WHERE strpos(o::text, $1) > 0) + (SELECT count(*) FROM river_job j WHERE strpos(j::text, $1) > 0)`, whisper).Scan(&n))
	return n
}

func TestEscapesHarmNobody(t *testing.T) {
	t.Parallel()
	for i, door := range []string{bySQL, byReport, byTx, byReading, byStep, byConn} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			p := newPrison(t)
			kept, last := 0, p.neighbour("the first")
			before := p.stands()
			for _, name := range slices.Sorted(maps.Keys(escapes)) {
				e := escapes[name]
				want, outlives := strings.CutSuffix(strings.Fields(e.want)[i], "!")
				assert.Equal(t, want, p.try(door, e.sql), name)
				if outlives { // see Not promised in docs/guarantees.md
					require.NotEqual(t, before, p.stands(), "%s: the documents are out of date", name)
					p.mend()
					before = p.stands()
				}
				require.Equal(t, before, p.stands(), name)
				if now := p.neighbour(name); now != last {
					last = now
				} else {
					kept++
				}
			}
			require.NotZero(t, kept, "no job followed an escape on the same connection")
			p.env.Run("brick", Neighbour{}) // whose end is written behind all others
			require.Zero(t, p.told())
			t.Logf("%d escapes: the next tenant's job ran on the same connection behind %d, on a new one behind the others", len(escapes), kept)
		})
	}
}
