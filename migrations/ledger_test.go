package migrations_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The functions of a tenant's ledger, called as the worker calls them: what each state
// of a row, a fence and a session makes of them.

// aUID and againUID are jobs whose end makes the ledger forget, otherUID one whose end
// does not.
const (
	againUID = "0190aaaa-0000-7000-8000-000000000080"
	aUID     = "0190aaaa-0000-7000-8000-000000000040"
	otherUID = "0190aaaa-0000-7000-8000-000000000041"
)

// ledger is a tenant's database and its organisation 1.
type ledger struct {
	t    *testing.T
	db   *jobstest.Database
	pool *pgxpool.Pool
}

func newLedger(t *testing.T) *ledger {
	db := jobstest.New(t).Database("one", jobstest.DatabaseOpts{})
	return &ledger{t, db, db.Pool}
}

// of writes out the tickets of a statement: TICKET(uid) becomes two arguments, signed.
func (l *ledger) of(sql string) string {
	for {
		before, rest, found := strings.Cut(sql, "TICKET(")
		if !found {
			return sql
		}
		uid, after, _ := strings.Cut(rest, ")")
		ticket := l.db.Ticket(1, uid)
		sql = before + "'" + ticket.Text + "', '" + ticket.MAC + "'" + after
	}
}

func (l *ledger) exec(sql string, args ...any) {
	l.t.Helper()
	_, err := l.pool.Exec(context.Background(), sql, args...)
	require.NoError(l.t, err)
}

// inTx runs statements in one transaction and commits it, and returns
// the SQLSTATE of the first error.
func (l *ledger) inTx(statements ...string) string {
	l.t.Helper()
	err := pgx.BeginFunc(context.Background(), l.pool, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(context.Background(), l.of(sql)); err != nil {
				return err
			}
		}
		return nil
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	require.NoError(l.t, err)
	return ""
}

// text is the one text that a statement returns, or the SQLSTATE of its error.
func (l *ledger) text(sql string, args ...any) (text string) {
	l.t.Helper()
	err := l.pool.QueryRow(context.Background(), l.of(sql), args...).Scan(&text)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	require.NoError(l.t, err)
	return text
}

func (l *ledger) state(uid string) (state string) {
	l.t.Helper()
	require.NoError(l.t, l.pool.QueryRow(context.Background(),
		`SELECT coalesce((SELECT state FROM headgate.ledger WHERE job_uid = $1), 'no row')`, uid).Scan(&state))
	return state
}

const (
	ticket    = `TICKET(` + aUID + `)`
	begin     = `SELECT headgate.begin_job(` + ticket + `, '', 2, '', 0, 0, 0)`
	peek      = `SELECT headgate.peek_job(` + ticket + `, '', 2, '', 0, 0, 0)`
	enter     = `SELECT headgate.enter_job(` + ticket + `, 2, '', 0, 0, 0)`
	endJob    = `SELECT headgate.end_job('', '{"rows": 7}', ARRAY['a','b','c'], ARRAY['a','b','c'])`
	endLate   = `SELECT headgate.end_late('', '{"rows": 7}', ARRAY['a','b','c'], ARRAY['a','b','c'])`
	tombstone = `SELECT state FROM headgate.tombstone(` + ticket + `, 50)`
	probe     = `SELECT state || coalesce(' ' || result::text, '') FROM headgate.probe(` + ticket + `, 50)`
	claimJob  = `SELECT state FROM headgate.claim_job(` + ticket + `, 2, 'app', 1000, 2000, 3000)`
	finishJob = `SELECT headgate.finish_job(` + ticket + `, '{"rows": 9}')::text`
	release   = `SELECT headgate.release_job(` + ticket + `)`
)

// An organisation that has moved to another database is refused here, by each of the
// functions that begin work, from the generation of the move on.
func TestAnOrganisationThatHasMovedIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.exec(`INSERT INTO headgate.fence VALUES (1, 2), (3, 1)`)
	for name, sql := range map[string]string{
		"begin_job": `SELECT headgate.begin_job($1, $2, '', $3, '', 0, 0, 0)::text`,
		"peek_job":  `SELECT headgate.peek_job($1, $2, '', $3, '', 0, 0, 0)::text`,
		"enter_job": `SELECT headgate.enter_job($1, $2, $3, '', 0, 0, 0)::text`,
		"claim_job": `SELECT headgate.claim_job($1, $2, $3, '', 0, 0, 0)::text`,
	} {
		generation := func(org int64, n int) (code string) {
			conn, err := l.pool.Acquire(context.Background())
			require.NoError(t, err)
			defer func() { _ = conn.Hijack().Close(context.Background()) }() // with its session lock and settings
			tx, err := conn.Begin(context.Background())
			require.NoError(t, err)
			signed := l.db.Ticket(org, aUID)
			_, err = tx.Exec(context.Background(), sql, signed.Text, signed.MAC, n)
			require.NoError(t, tx.Rollback(context.Background()))
			if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
				return refused.Code
			}
			require.NoError(t, err, name)
			return ""
		}
		require.Equal(t, "55000", generation(1, 1), name)
		require.Empty(t, generation(1, 2), name)
		require.Empty(t, generation(1, 3), name)
		require.Empty(t, generation(2, 1), "%s: nothing is said of another organisation", name)
		require.Empty(t, generation(3, 1), name)
	}
}

// Each function that speaks for a job wants a ticket that this database's key has signed,
// of about this time. A worker whose clock is wrong signs by the server's.
func TestATicketIsSigned(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	other := jobstest.New(t).Database("other", jobstest.DatabaseOpts{})
	// Each case is a job of its own: the server may hold a lock of a session that has ended
	// a moment longer.
	at := func(d time.Duration) tenantdb.Ticket {
		var now time.Time
		require.NoError(t, l.pool.QueryRow(context.Background(), `SELECT clock_timestamp()`).Scan(&now))
		return tenantdb.SignTicket(l.db.SigningKey, now.Add(d), tenantdb.Bearer{Org: 1, UID: uuid.NewString()})
	}
	for name, sql := range map[string]string{
		"begin_job":    `SELECT headgate.begin_job($1, $2, '', 2, '', 0, 0, 0)::text`,
		"peek_job":     `SELECT headgate.peek_job($1, $2, '', 2, '', 0, 0, 0)::text`,
		"enter_job":    `SELECT headgate.enter_job($1, $2, 2, '', 0, 0, 0)::text`,
		"claim_job":    `SELECT headgate.claim_job($1, $2, 2, '', 0, 0, 0)::text`,
		"finish_job":   `SELECT headgate.finish_job($1, $2, NULL)::text`,
		"release_job":  `SELECT headgate.release_job($1, $2)::text`,
		"probe":        `SELECT headgate.probe($1, $2, 50)::text`,
		"tombstone":    `SELECT headgate.tombstone($1, $2, 50)::text`,
		"leave_centre": `SELECT headgate.leave_centre($1, $2, NULL, NULL, 'mine', NULL)::text`,
	} {
		good, ago, ahead := l.db.Ticket(1, uuid.NewString()), at(-4*time.Minute), at(4*time.Minute)
		tooOld, tooNew := at(-6*time.Minute), at(6*time.Minute)
		for what, c := range map[string]struct {
			text, mac any
			code      string
		}{
			"signed":                   {good.Text, good.MAC, ""},
			"not signed":               {good.Text, "", "HG004"},
			"nothing":                  {nil, nil, "HG004"},
			"a text without a mac":     {good.Text, nil, "HG004"},
			"a mac without a text":     {nil, good.MAC, "HG004"},
			"another text":             {strings.Replace(good.Text, "1|", "2|", 1), good.MAC, "HG004"},
			"another database's key":   {other.Ticket(1, aUID).Text, other.Ticket(1, aUID).MAC, "HG004"},
			"of four minutes ago":      {ago.Text, ago.MAC, ""},
			"of six minutes ago":       {tooOld.Text, tooOld.MAC, "HG004"},
			"of six minutes from now":  {tooNew.Text, tooNew.MAC, "HG004"},
			"of four minutes from now": {ahead.Text, ahead.MAC, ""},
		} {
			var code string
			acquired, err := l.pool.Acquire(context.Background())
			require.NoError(t, err)
			conn := acquired.Hijack() // it ends with its session lock and settings
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			tx, err := conn.Begin(context.Background())
			require.NoError(t, err)
			_, err = tx.Exec(context.Background(), sql, c.text, c.mac)
			if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
				code = refused.Code
			} else {
				require.NoError(t, err, name)
			}
			require.Equal(t, c.code, code, "%s: %s", name, what)
			require.NoError(t, conn.Close(context.Background()))
		}
	}
}

// The context of a job outside a transaction is its session's, and ends with that or with
// the reset, whichever comes first.
func TestASessionsContext(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLedger(t)
	conn, err := l.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	code := func(on *pgxpool.Conn, sql string, args ...any) string {
		_, err := on.Exec(ctx, sql, args...)
		if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
			return refused.Code
		}
		require.NoError(t, err, sql)
		return ""
	}
	const current = `SELECT headgate.current_org()`
	require.Empty(t, code(conn, l.of(claimJob)))
	require.Empty(t, code(conn, current))
	var kept string
	require.NoError(t, conn.QueryRow(ctx, `SELECT current_setting('headgate.context')`).Scan(&kept))
	require.Empty(t, code(conn, `RESET ALL`))
	require.Equal(t, "28000", code(conn, current))
	set := func(on *pgxpool.Conn) string {
		require.Empty(t, code(on, `SELECT set_config('headgate.context', $1, false)`, kept))
		return code(on, current)
	}
	require.Empty(t, set(conn), "the session is the same job's")
	other, err := l.pool.Acquire(ctx)
	require.NoError(t, err)
	defer other.Release()
	require.Equal(t, "28000", set(other), "another session")
	require.Empty(t, code(conn, `SELECT headgate.end_session()`))
	require.Equal(t, "28000", set(conn), "the session is nobody's")
	require.Empty(t, code(conn, `PREPARE headgate_session AS SELECT`))
	require.Equal(t, "28000", set(conn), "a statement of the job's own")
	require.Empty(t, code(conn, l.of(`SELECT headgate.claim_job(TICKET(`+otherUID+`), 2, '', 0, 0, 0)`)))
	require.Equal(t, "28000", set(conn), "the session is another job's")
}

// Only a claim of the job's own transaction becomes done.
func TestOnlyAnOpenClaimIsMarkedDone(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	require.Equal(t, "HG002", l.inTx(enter, endJob), "there is no row")
	require.Equal(t, "2D000", l.inTx(begin), "a claim does not outlive its transaction")
	require.Equal(t, "no row", l.state(aUID))
	require.Empty(t, l.inTx(begin, endJob))
	require.Equal(t, `done {"rows": 7}`, l.text(probe))
	require.Equal(t, "HG002", l.inTx(enter, endJob), "it is done already")
	require.Equal(t, "28000", l.inTx(endJob), "the transaction acts for nobody")
	require.Equal(t, "HG003", l.inTx(peek, endLate), "another attempt has done it")
	l.exec(`DELETE FROM headgate.ledger`)
	require.Equal(t, "HG002", l.inTx(begin, tombstone, endJob), "its own handler has cancelled it")
	require.Empty(t, l.inTx(peek, endLate))
	require.Equal(t, `done {"rows": 7}`, l.text(probe))
	l.exec(`DELETE FROM headgate.ledger`)
	var state string
	tx, err := l.pool.Begin(context.Background())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	require.NoError(t, tx.QueryRow(context.Background(), l.of(probe)).Scan(&state))
	require.Equal(t, "absent", state)
	require.Error(t, tx.Commit(context.Background()), "what a probe has written is nobody's claim")
	require.Equal(t, "no row", l.state(aUID))
}

// A job that is not in its transaction or its context any more is not marked done,
// whichever of the values differs. A transaction has a number only once it has written.
func TestALeftTransactionIsNotMarkedDone(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for _, c := range []struct {
		before, now, want string
	}{
		{`ARRAY['a','','c','d']`, `ARRAY['a','7','c','d']`, ""},
		{`ARRAY['a','7','c','d']`, `ARRAY['a','7','c','d']`, ""},
		{`ARRAY['a','7','c','d']`, `ARRAY['x','7','c','d']`, "HG001"},
		{`ARRAY['a','7','c','d']`, `ARRAY['a','8','c','d']`, "HG001"},
		{`ARRAY['a','7','c','d']`, `ARRAY['a','','c','d']`, "HG001"},
		{`ARRAY['a','7','c','d']`, `ARRAY['a','7','x','d']`, "HG001"},
		{`ARRAY['a','','c','d']`, `ARRAY['a','7','c','x']`, "HG001"},
		{`ARRAY['a','','c','d']`, `ARRAY['x','7','c','d']`, "HG001"},
	} {
		for function, first := range map[string]string{"end_job": begin, "end_late": peek} {
			l.exec(`DELETE FROM headgate.ledger`)
			end := `SELECT headgate.` + function + `('', NULL, ` + c.before + `, ` + c.now + `)`
			require.Equal(t, c.want, l.inTx(first, end), "%s: %s, %s", function, c.before, c.now)
		}
	}
}

// Each of the functions that end a job makes the ledger forget, once in 64 jobs: so much
// at a time, what is older than its retention, and no open claim.
func TestEachEndMakesTheLedgerForget(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for name, statements := range map[string][2]string{
		"end_job":    {begin, endJob},
		"end_late":   {peek, endLate},
		"finish_job": {begin, finishJob},
	} {
		l.exec(`DELETE FROM headgate.ledger`)
		l.exec(`
INSERT INTO headgate.ledger (org_id, job_uid, state, two_phase, begun_at)
SELECT 1, gen_random_uuid(), CASE WHEN n > 300 THEN 'claimed' ELSE 'done' END, true, now() - $1::interval - make_interval(mins => n) FROM generate_series(1, 310) n
UNION ALL
SELECT 1, gen_random_uuid(), 'done', true, now() - $1::interval + '1 minute'::interval FROM generate_series(1, 20) n`, jobs.LedgerRetention)
		left := func() string {
			return l.text(`SELECT format('%s old, %s claimed, %s young', count(*) FILTER (WHERE begun_at < now() - $1::interval AND state <> 'claimed'),
				count(*) FILTER (WHERE state = 'claimed'), count(*) FILTER (WHERE begun_at BETWEEN now() - $1::interval AND now() - interval '1 day')) FROM headgate.ledger`, jobs.LedgerRetention)
		}
		for _, c := range []struct{ uid, left, why string }{
			{aUID, "44 old, 10 claimed, 20 young", "so many at a time"},
			{otherUID, "44 old, 10 claimed, 20 young", "not each job's end"},
			{againUID, "0 old, 10 claimed, 20 young", "nothing else"},
		} {
			of := strings.NewReplacer(aUID, c.uid)
			require.Empty(t, l.inTx(of.Replace(statements[0]), of.Replace(statements[1])))
			require.Equal(t, c.left, left(), "%s: %s", name, c.why)
		}
	}
}

// A tombstone says what it meets: nothing, what is done, or a claim of which nobody
// knows the end; from then on the job can have no effect. While an attempt is at work,
// in a transaction or beside one, nothing is settled.
func TestATombstoneSaysWhatItMeets(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLedger(t)
	require.Equal(t, "tombstone", l.text(tombstone))
	require.Equal(t, "tombstone", l.state(aUID))
	require.Equal(t, "(tombstone,)", l.text(begin+`::text`), "no attempt begins any more")
	require.Equal(t, "(tombstone,)", l.text(peek+`::text`))

	l.exec(`UPDATE headgate.ledger SET state = 'done'`)
	require.Equal(t, "done", l.text(tombstone))
	require.Equal(t, "done", l.state(aUID))

	l.exec(`UPDATE headgate.ledger SET state = 'claimed', two_phase = true`)
	conn, err := l.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	var state string
	require.NoError(t, conn.QueryRow(ctx, l.of(claimJob)).Scan(&state))
	require.Equal(t, "claimed", state)
	require.Equal(t, "55P03", l.text(tombstone), "its session lives")
	require.Equal(t, "claimed", l.state(aUID))
	_, err = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	require.NoError(t, err)
	require.Equal(t, "claimed", l.text(tombstone), "it may have had a part of its effect")
	require.Equal(t, "tombstone", l.state(aUID))

	l.exec(`DELETE FROM headgate.ledger`)
	tx, err := l.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, l.of(begin))
	require.NoError(t, err)
	require.Equal(t, "55P03", l.text(tombstone), "its transaction is open")
	require.Equal(t, "55P03", l.text(probe))
	require.Equal(t, "55P03", l.text(`SELECT state FROM headgate.begin_job(`+ticket+`, '', 2, '', 0, 50, 0)`))
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, "tombstone", l.text(tombstone))
}

// Work outside of a transaction excludes other sessions, leaves its settings to the
// session, and is taken back only while it is claimed.
func TestAClaimOutsideOfATransaction(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLedger(t)
	conn, err := l.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	scan := func(sql string) (text string) {
		require.NoError(t, conn.QueryRow(ctx, l.of(sql)).Scan(&text), sql)
		return text
	}
	require.Equal(t, "begun", scan(claimJob))
	require.Equal(t, "busy", l.text(claimJob))
	require.Equal(t, "1 app 1s 2s 3s 3s", scan(`SELECT concat_ws(' ', headgate.current_org(), current_setting('application_name'), current_setting('statement_timeout'),
		current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('idle_session_timeout'))`))
	require.Equal(t, "claimed", l.state(aUID))
	require.Empty(t, l.inTx(release))
	require.Equal(t, "no row", l.state(aUID))
	require.Equal(t, "begun", scan(claimJob))
	require.Equal(t, "true", scan(finishJob))
	require.Equal(t, "false", scan(finishJob), "it is done already")
	require.Empty(t, l.inTx(release))
	require.Equal(t, "done", l.state(aUID), "what is done is not taken back")
	require.Equal(t, "done", scan(claimJob))
}

// A session without an organisation is refused, before its first job and behind one.
func TestWithoutAnOrganisationNothingIsRead(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLedger(t)
	conn, err := l.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	current := func() string {
		_, err := conn.Exec(ctx, `SELECT headgate.current_org()`)
		if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
			return refused.Code
		}
		require.NoError(t, err)
		return ""
	}
	require.Equal(t, "28000", current())
	_, err = conn.Exec(ctx, `BEGIN`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, l.of(enter))
	require.NoError(t, err)
	require.Empty(t, current())
	_, err = conn.Exec(ctx, `COMMIT`)
	require.NoError(t, err)
	require.Equal(t, "28000", current(), "a local setting reads as an empty text then")
}

// The end of a job is flushed to disk whatever has been set, and what waits for more
// than that is left as it is.
func TestTheLedgersCommitIsKept(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for set, want := range map[string]string{"off": "on", "on": "on", "local": "local", "remote_apply": "remote_apply"} {
		l.exec(`DELETE FROM headgate.ledger`)
		var got string
		require.NoError(t, pgx.BeginFunc(context.Background(), l.pool, func(tx pgx.Tx) error {
			for _, sql := range []string{begin, `SET LOCAL synchronous_commit = ` + set, endJob} {
				if _, err := tx.Exec(context.Background(), l.of(sql)); err != nil {
					return err
				}
			}
			return tx.QueryRow(context.Background(), `SHOW synchronous_commit`).Scan(&got)
		}))
		require.Equal(t, want, got, set)
	}
}
