package erasure

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// Centre is the central database, as orchestrator.Client.Erasures gives it.
type Centre interface {
	// Erasing says what the catalog knows of a tenant, and whether its erasure was asked for.
	Erasing(ctx context.Context, tenant string) (wire.Erasing, error)

	// Clear takes out what the central database keeps of the tenant's jobs. It hands the keys
	// of the tenant's report files to remove, which may be nil and says how many files stay.
	// Where any does, the history keeps the keys of all, so that Clear may be called again.
	Clear(ctx context.Context, tenant string, remove func(ctx context.Context, keys []string) (stay int, err error)) (wire.Cleared, error)

	// End notes that the job has erased the tenant.
	End(ctx context.Context, tenant, job string, rows int64) error
}

// Config is what the handler needs. Centre is required.
type Config struct {
	Centre Centre

	// RemoveFile deletes a report's file by its key, and says whether the file was there. nil
	// leaves the files of reports where they are.
	RemoveFile func(ctx context.Context, key string) (there bool, err error)

	// Batch is how many rows one transaction deletes at most. 0 means 1000.
	Batch int

	// Page is how many rows one look at a table finds at most: the server keeps their places,
	// 6 bytes each. 0 means 1,000,000.
	Page int

	// LockTimeout bounds each wait for a table. 0 means 2 seconds.
	LockTimeout time.Duration

	// StatementTimeout bounds each statement: the longest reads a table without an index on
	// its organisation's column. 0 means 30 minutes.
	StatementTimeout time.Duration

	// WaitFor is when a job comes again whose tenant has jobs that have not ended. 0 means 10
	// seconds.
	WaitFor time.Duration
}

// New returns the handler of [wire.Erase], a [jobs.ConnHandler].
//
// A tenant that was not removed, or whose erasure was not asked for by the orchestrator's
// client, ends the job for good ([jobs.Cancel]). While a job of the tenant has not ended the
// job is put off, and uses no attempt. Rows that stay are an error that names each table, after all
// others are gone. Result.Rows is the number of rows deleted in this attempt, and
// Result.Output says of which tables.
func New(cfg Config) jobs.ConnHandler[wire.Erase] {
	cfg.Batch, cfg.Page = cmp.Or(cfg.Batch, 1000), cmp.Or(cfg.Page, 1_000_000)
	cfg.LockTimeout, cfg.StatementTimeout, cfg.WaitFor = cmp.Or(cfg.LockTimeout, 2*time.Second), cmp.Or(cfg.StatementTimeout, 30*time.Minute), cmp.Or(cfg.WaitFor, 10*time.Second)
	return func(ctx context.Context, conn *pgx.Conn, job *jobs.Job[wire.Erase]) error {
		if err := job.Args.Check(); err != nil {
			return jobs.Cancel(fmt.Errorf("erase: %w", err))
		}
		e := &eraser{cfg: cfg, conn: conn, job: job}
		if err := e.run(ctx); err != nil {
			return fmt.Errorf("erase: %w", err)
		}
		return nil
	}
}

// eraser is one attempt.
type eraser struct {
	cfg    Config
	conn   *pgx.Conn
	job    *jobs.Job[wire.Erase]
	target wire.Erasing
	login  string // quoted
	plan   *plan
	told   told
}

func (e *eraser) run(ctx context.Context) (err error) {
	if e.target, err = e.cfg.Centre.Erasing(ctx, e.job.Args.Tenant); err != nil {
		return err
	}
	if e.target.Done && !e.job.Args.CountOnly {
		e.job.Result.Output = "nothing to do: the tenant was erased before"
		return nil
	}
	if err := e.allowed(ctx); err != nil {
		return err
	}
	if e.job.Args.CountOnly {
		return e.count(ctx)
	}
	if err := e.shutOut(ctx); err != nil {
		return err
	}
	if err := e.tables(ctx); err != nil {
		return err
	}
	return e.end(ctx)
}

// setLocal has functions and operators without a schema be Postgres's own.
const setLocal = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', $1, true), pg_catalog.set_config('statement_timeout', $2, true),
    pg_catalog.set_config('row_security', 'off', true), pg_catalog.set_config('headgate.erase_org', $3, true), pg_catalog.set_config('headgate.erase_key', $4, true)`

// inTx runs f in a transaction with settings of its own, whatever the session's are. All
// statements of an erasure that name anything stand in such a transaction.
func (e *eraser) inTx(ctx context.Context, f func(tx pgx.Tx) error) error {
	ms := func(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }
	return pgx.BeginTxFunc(ctx, e.conn, pgx.TxOptions{BeginQuery: session.Begin}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setLocal, ms(e.cfg.LockTimeout), ms(e.cfg.StatementTimeout), strconv.FormatInt(e.target.OrgID, 10), e.target.OrgKey); err != nil {
			return fmt.Errorf("preparing a transaction: %w", err)
		}
		return f(tx)
	})
}

const databaseSQL = `SELECT database_id::pg_catalog.text, pg_catalog.quote_ident(session_user) FROM headgate.identity`

// allowed refuses what nobody has asked for, and puts the job off while the tenant has work.
func (e *eraser) allowed(ctx context.Context) error {
	var database string
	err := e.inTx(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, databaseSQL).Scan(&database, &e.login) })
	if err != nil {
		return fmt.Errorf("reading whose database this is: %w", err)
	}
	switch {
	case e.target.Database != database:
		return jobs.Cancel(fmt.Errorf("tenant %s lives in another database than this job was enqueued for: ask again with `headgate tenant erase %[1]s --yes`", e.job.Args.Tenant))
	case e.job.Args.CountOnly:
		return nil
	case !e.target.Removed:
		return jobs.Cancel(fmt.Errorf("%w: run `headgate tenant remove %s --yes`, and then `headgate tenant erase %[2]s --yes`", jobs.ErrNotRemoved, e.job.Args.Tenant))
	case e.target.Job != e.job.UID:
		return jobs.Cancel(fmt.Errorf("nobody has asked for this job by `headgate tenant erase %s --yes`, or a later request has taken its place", e.job.Args.Tenant))
	case e.target.Jobs > 0 && e.target.Unconfirmed != "":
		return fmt.Errorf("%s not ended, and %s is unconfirmed: `headgate job cancel %[2]s` ends that one: %[3]w", jobs.CountVerb(e.target.Jobs, "job", "of the tenant has", "of the tenant have"), e.target.Unconfirmed, jobs.Snooze(e.cfg.WaitFor))
	case e.target.Jobs > 0:
		return fmt.Errorf("%s not ended, %s among them: %w", jobs.CountVerb(e.target.Jobs, "job", "of the tenant has", "of the tenant have"), e.target.First, jobs.Snooze(e.cfg.WaitFor))
	}
	return nil
}

// count counts the tenant's rows, table by table, and says of which it cannot.
func (e *eraser) count(ctx context.Context) error {
	if err := e.look(ctx); err != nil {
		return err
	}
	for _, t := range e.plan.tables {
		var n int64
		for _, one := range t.parts {
			some, err := e.countPart(ctx, t, one)
			why := cmp.Or(e.untouchable(one), refusal(err))
			if why == "" && err != nil {
				return fmt.Errorf("counting the rows of %s: %w", one.Name, err)
			}
			if why == "" && some > 0 && one.Code != "" {
				why = e.runs(one)
			}
			if why != "" {
				e.told.left = append(e.told.left, leftOf{table: t, left: left{why: why}})
			}
			n += some
		}
		e.told.add(t.Name, n)
	}
	err := e.inTx(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, countLedger, e.target.OrgID).Scan(&e.told.ledger) })
	if err != nil {
		return fmt.Errorf("counting the ledger's rows: %w", err)
	}
	e.job.Result.Output = e.counted()
	return nil
}

func (e *eraser) countPart(ctx context.Context, t *table, p part) (n int64, err error) {
	if e.untouchable(p) != "" {
		return 0, nil
	}
	err = e.inTx(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, fmt.Sprintf("SELECT pg_catalog.count(*) FROM ONLY %s t WHERE %s", p.Name, e.plan.condition(t))).Scan(&n)
	})
	return n, err
}

const countLedger = `SELECT pg_catalog.count(*) FROM headgate.ledger WHERE org_id = $1`

const closeOrganisation = `SELECT headgate.close_organisation($1)`

// shutOut has the database refuse every attempt of the tenant's jobs from here on: one whose
// worker was taken for dead may still be on its way, and the ledger, which would refuse it,
// goes.
func (e *eraser) shutOut(ctx context.Context) error {
	err := e.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, closeOrganisation, e.target.OrgID)
		return err
	})
	if err != nil {
		return fmt.Errorf("shutting the organisation out: %w", err)
	}
	return nil
}

// maxRounds is how many plans one attempt makes. The second finds no row, unless somebody
// goes on writing or changing tables.
const maxRounds = 5

// tables deletes the rows of all tables. Tables, partitions and declarations may come
// meanwhile, so that only a whole pass by a fresh plan that finds no row ends the erasure.
func (e *eraser) tables(ctx context.Context) error {
	for range maxRounds {
		if err := e.look(ctx); err != nil {
			return err
		}
		found, err := e.passes(ctx)
		if err != nil {
			return err
		}
		changed := slices.ContainsFunc(e.told.left, func(l leftOf) bool { return l.changed })
		switch {
		case len(e.told.left) > 0 && !changed:
			return e.stays(ctx)
		case len(e.told.left) == 0 && found == 0:
			return nil
		}
	}
	return fmt.Errorf("%s deleted, and %d looks have each found further ones: have the application stop writing for the tenant; the job tries again", jobs.CountVerb(e.told.rows(), "row", "is", "are"), maxRounds)
}

// passes deletes rows until a pass deletes none. It returns how many the first pass has found.
func (e *eraser) passes(ctx context.Context) (first int64, err error) {
	for n := 0; ; n++ {
		var found, deleted int64
		e.told.left = nil
		for _, o := range e.plan.others {
			if o.Broken {
				e.told.left = append(e.told.left, leftOf{table: &table{Organised: protection.Organised{Name: o.Name}}, left: left{why: e.declare(o)}})
			}
		}
		for _, t := range e.plan.tables {
			some, gone, rest, err := e.remove(ctx, t)
			e.told.add(t.Name, gone)
			found, deleted = found+some, deleted+gone
			if rest.any() {
				e.told.left = append(e.told.left, leftOf{table: t, left: rest})
			}
			if err != nil {
				return first, err
			}
		}
		if n == 0 {
			first = found
		}
		if deleted == 0 {
			return first, nil
		}
	}
}

const forgetOrganisation = `SELECT deleted, left_over FROM headgate.forget_organisation($1, $2)`

// end takes Headgate's own rows along, here and in the central database.
func (e *eraser) end(ctx context.Context) error {
	for {
		var gone int64
		var locked bool
		err := e.inTx(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, forgetOrganisation, e.target.OrgID, e.cfg.Batch).Scan(&gone, &locked)
		})
		if err != nil {
			return fmt.Errorf("deleting the ledger's rows: %w", err)
		}
		if locked {
			return fmt.Errorf("rows of headgate.ledger are locked by another session")
		}
		if e.told.ledger += gone; gone == 0 {
			break
		}
	}
	var remove func(ctx context.Context, keys []string) (int, error)
	if e.cfg.RemoveFile != nil {
		remove = e.removeFiles
	}
	var err error
	if e.told.cleared, err = e.cfg.Centre.Clear(ctx, e.job.Args.Tenant, remove); err != nil {
		return err
	}
	if e.told.stuck > 0 {
		return fmt.Errorf("%s and the history are gone, and %s; the job tries again: %s", jobs.Count(e.told.rows(), "row"), jobs.CountVerb(e.told.stuck, "file", "of reports stays", "of reports stay"), strings.Join(e.told.stays, "; "))
	}
	if err := e.cfg.Centre.End(ctx, e.job.Args.Tenant, e.job.UID, e.told.rows()); err != nil {
		return err
	}
	e.job.Result.Rows, e.job.Result.Output = e.told.rows(), e.erased()
	return nil
}

// removeFiles tries all files: one that cannot be deleted keeps no other one back.
func (e *eraser) removeFiles(ctx context.Context, keys []string) (stay int, err error) {
	for _, key := range keys {
		there, err := e.cfg.RemoveFile(ctx, key)
		switch {
		case ctx.Err() != nil:
			return stay, ctx.Err()
		case err != nil:
			stay++
			e.told.stick(key, err)
		case there:
			e.told.files++
		default:
			e.told.missing++
		}
	}
	return stay, nil
}
