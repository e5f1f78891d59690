package erasure

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// Centre is the central database, as orchestrator.Client.Erasures gives it.
type Centre interface {
	// Erasing says what the catalog knows of a tenant, and whether its erasure was asked for.
	Erasing(ctx context.Context, tenant string) (wire.Erasing, error)

	// Clear takes out what the central database keeps of the tenant's jobs. It hands the keys
	// of the tenant's report files to remove, which may be nil.
	Clear(ctx context.Context, tenant string, remove func(ctx context.Context, keys []string) error) (wire.Cleared, error)

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
// Result.Output says of which tables. The session is left with other settings.
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
	if e.plan, err = makePlan(ctx, e.conn, e.target.OrgKey); err != nil {
		return err
	}
	if err := e.prepare(ctx); err != nil {
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

const databaseSQL = `SELECT database_id::text, pg_catalog.quote_ident(session_user) FROM headgate.identity`

// allowed refuses what nobody has asked for, and puts the job off while the tenant has work.
func (e *eraser) allowed(ctx context.Context) error {
	var database string
	if err := e.conn.QueryRow(ctx, databaseSQL).Scan(&database, &e.login); err != nil {
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
	case e.target.Jobs > 0:
		return fmt.Errorf("%d jobs of the tenant have not ended, %s among them: %w", e.target.Jobs, e.target.First, jobs.Snooze(e.cfg.WaitFor))
	}
	return nil
}

const setSession = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false), pg_catalog.set_config('lock_timeout', $1, false), pg_catalog.set_config('statement_timeout', $2, false),
    pg_catalog.set_config('row_security', 'off', false)`

func (e *eraser) prepare(ctx context.Context) error {
	ms := func(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }
	if _, err := e.conn.Exec(ctx, setSession, ms(e.cfg.LockTimeout), ms(e.cfg.StatementTimeout)); err != nil {
		return fmt.Errorf("preparing the session: %w", err)
	}
	if _, err := e.conn.Exec(ctx, setTarget, strconv.FormatInt(e.target.OrgID, 10), e.target.OrgKey); err != nil {
		return fmt.Errorf("preparing the session: %w", err)
	}
	return nil
}

// count counts the tenant's rows, table by table.
func (e *eraser) count(ctx context.Context) error {
	for _, t := range e.plan.tables {
		where, ok := e.plan.condition(t)
		if !ok {
			continue
		}
		var n int64
		for _, one := range t.parts {
			var some int64
			if err := e.conn.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM ONLY %s t WHERE %s", one.Name, where)).Scan(&some); err != nil {
				return fmt.Errorf("counting the rows of %s: %w", one.Name, err)
			}
			n += some
		}
		e.told.add(t.Name, n)
	}
	var ledger int64
	if err := e.conn.QueryRow(ctx, countLedger, e.target.OrgID).Scan(&ledger); err != nil {
		return fmt.Errorf("counting the ledger's rows: %w", err)
	}
	e.told.ledger = ledger
	e.job.Result.Output = e.counted()
	return nil
}

const countLedger = `SELECT count(*) FROM headgate.ledger WHERE org_id = $1`

const closeOrganisation = `SELECT headgate.close_organisation($1)`

// shutOut has the database refuse every attempt of the tenant's jobs from here on: one whose
// worker was taken for dead may still be on its way, and the ledger, which would refuse it,
// goes.
func (e *eraser) shutOut(ctx context.Context) error {
	if _, err := e.conn.Exec(ctx, closeOrganisation, e.target.OrgID); err != nil {
		return fmt.Errorf("shutting the organisation out: %w", err)
	}
	return nil
}

// tables deletes the rows of all tables, until a pass deletes none and no reference is left
// that the tenant's own rows can do without.
func (e *eraser) tables(ctx context.Context) error {
	for {
		var pass int64
		e.told.left = nil
		for _, t := range e.plan.tables {
			n, rest, err := e.remove(ctx, t)
			e.told.add(t.Name, n)
			pass += n
			if rest.any() {
				e.told.left = append(e.told.left, leftOf{t, rest})
			}
			if err != nil {
				return err
			}
		}
		if pass > 0 {
			continue
		}
		if n, err := e.loosen(ctx); err != nil || n == 0 {
			if err != nil {
				return err
			}
			break
		}
	}
	if len(e.told.left) > 0 {
		return e.stays()
	}
	return nil
}

const forgetOrganisation = `SELECT deleted, left_over FROM headgate.forget_organisation($1, $2)`

// end takes Headgate's own rows along, here and in the central database.
func (e *eraser) end(ctx context.Context) error {
	for {
		var gone int64
		var locked bool
		if err := e.conn.QueryRow(ctx, forgetOrganisation, e.target.OrgID, e.cfg.Batch).Scan(&gone, &locked); err != nil {
			return fmt.Errorf("deleting the ledger's rows: %w", err)
		}
		if locked {
			return fmt.Errorf("rows of headgate.ledger are locked by another session")
		}
		if e.told.ledger += gone; gone == 0 {
			break
		}
	}
	var remove func(ctx context.Context, keys []string) error
	if e.cfg.RemoveFile != nil {
		remove = e.removeFiles
	}
	var err error
	if e.told.cleared, err = e.cfg.Centre.Clear(ctx, e.job.Args.Tenant, remove); err != nil {
		return err
	}
	if err := e.cfg.Centre.End(ctx, e.job.Args.Tenant, e.job.UID, e.told.rows()); err != nil {
		return err
	}
	e.job.Result.Rows, e.job.Result.Output = e.told.rows(), e.erased()
	return nil
}

func (e *eraser) removeFiles(ctx context.Context, keys []string) error {
	for _, key := range keys {
		there, err := e.cfg.RemoveFile(ctx, key)
		if err != nil {
			return fmt.Errorf("deleting the file of a report: %w", err)
		}
		if there {
			e.told.files++
		} else {
			e.told.missing++
		}
	}
	return nil
}
