package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// breakerWrite bounds one statement about a breaker: what it says is soon stale.
const breakerWrite = 2 * time.Second

// heard is told of every attempt to connect to a tenant's database, and keeps the
// breakers of all processes (claim.Breaker). Of what changes one process tells.
func (w *Worker) heard(ctx context.Context, place address.Place, silence error, opened tenantdb.Opened) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakerWrite)
	defer cancel()
	log := w.cfg.Logger.With("server", place.Server)
	breaker := func(scope, id string) claim.Breaker { return w.breaker(scope, id, jobs.ClassUnreachable, place) }
	if opened == tenantdb.OpenedServer {
		first, err := breaker("server", place.ServerID).Open(ctx, w.central, brief(silence))
		if first {
			log.ErrorContext(ctx, "server does not answer: its jobs wait, and it is tried by one at a time", "event", "server does not answer", "error", silence)
		}
		w.breakerTrouble(ctx, err)
	}
	if opened == tenantdb.OpenedDatabase {
		first, err := breaker("database", place.DatabaseID).Open(ctx, w.central, brief(silence))
		if first {
			log.ErrorContext(ctx, "database does not answer: its jobs wait, and it is tried by one at a time",
				"event", "database does not answer", "database", place.Database, "error", silence)
		}
		w.breakerTrouble(ctx, err)
	}
	if opened != tenantdb.OpenedNone {
		return
	}
	for scope, id := range map[string]string{"server": place.ServerID, "database": place.DatabaseID} {
		if !w.lease.Broken(id) {
			continue
		}
		if silence != nil {
			w.breakerTrouble(ctx, breaker(scope, id).Fail(ctx, w.central, brief(silence)))
			continue
		}
		w.pass(ctx, breaker(scope, id), place, " answers again")
	}
}

func (w *Worker) breaker(scope, id string, class jobs.Class, place address.Place) claim.Breaker {
	tried := claim.Tried{Database: place.DatabaseID, Login: place.Login, Direct: place.Direct, Version: place.Version}
	return claim.Breaker{Scope: scope, ID: id, Class: class, Worker: w.id, Tried: tried, Pause: w.cfg.BreakerPause*4/5 + rand.N(w.cfg.BreakerPause*2/5)} //nolint:gosec // jitter
}

// pass tells a breaker that something went well.
func (w *Worker) pass(ctx context.Context, b claim.Breaker, place address.Place, says string) {
	since, err := b.Pass(ctx, w.central, max(place.Budget, 1))
	if since != nil {
		w.cfg.Logger.InfoContext(ctx, b.Scope+says, "event", b.Scope+says, "server", place.Server, "database", place.Database, "for", time.Since(*since).Round(time.Second).String())
	}
	w.breakerTrouble(ctx, err)
}

// refusing are the classes of attempts that say of their database that it would
// refuse the next one too, whoever makes it: an error of the worker's own, before
// any handler began, or one that a probe of its own has met as well. A login that
// is refused is not among them: connections know that by themselves, and until
// when. Nor is a schema that is newer than this program: other workers may be new
// enough. A full server counts where no job of the database gets through.
var refusing = map[jobs.Class]bool{jobs.ClassReadOnly: true, jobs.ClassDiskFull: true, jobs.ClassWrongDatabase: true, jobs.ClassWrongCentre: true, jobs.ClassUnprotected: true, jobs.ClassServerFull: true}

const (
	// probeReadOnly tells of a standby, too.
	probeReadOnly = `SELECT pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool`

	// probeDisk has the server write some megabytes, to a temporary file.
	probeDisk = `SELECT pg_catalog.count(*) FROM pg_catalog.generate_series(1, 200000)`
)

// errReadOnly has the probe's session closed, which would keep its default.
var errReadOnly = errors.New("the session may not write")

// confirms asks a database, on a session that has been reset, whether it is as a
// handler's statement says: a handler can make its own session read only, and
// raise any error. A probe that gets no answer confirms nothing.
func (w *Worker) confirms(ctx context.Context, place address.Place, class jobs.Class) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.LockTimeout)
	defer cancel()
	var confirmed bool
	err := w.pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		if class == jobs.ClassReadOnly {
			if err := conn.QueryRow(ctx, probeReadOnly).Scan(&confirmed); err != nil || !confirmed {
				return err
			}
			return errReadOnly
		}
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL work_mem = '64kB'`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, probeDisk)
			confirmed = sqlstate(err) == "53100"
			return err
		})
	})
	if err != nil && !confirmed {
		w.cfg.Logger.WarnContext(ctx, "could not look whether a database is as a job's error says", "database", place.Database, "class", class, "error", err)
	}
	return confirmed
}

// refusals counts, of databases that refuse work, the attempts in a row that met
// it. A database is forgotten when an attempt succeeds there.
type refusals struct {
	mu    sync.Mutex
	inRow map[string]int
}

// refusedBefore opens a breaker: one may have met the moment of a failover.
const refusedBefore = 3

func (r *refusals) note(database string) (refuses bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inRow == nil {
		r.inRow = map[string]int{}
	}
	r.inRow[database]++
	return r.inRow[database] >= refusedBefore
}

// clear returns whether there was anything to clear.
func (r *refusals) clear(database string) (some bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, some = r.inRow[database]
	delete(r.inRow, database)
	return some
}

// updateBreaker keeps the breaker of a database that refuses work. It opens when attempts
// fail because of that, whichever job makes them, and closes when they succeed.
func (w *Worker) updateBreaker(ctx context.Context, place address.Place, end disposition) {
	id := place.DatabaseID
	switch {
	case id == "":
	case refusing[end.class] && w.refusals.note(id):
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakerWrite)
		defer cancel()
		first, err := w.breaker("database", id, end.class, place).Open(ctx, w.central, clean(end.says, 500))
		if first && end.class != jobs.ClassServerFull { // of which its connections tell, once for the server
			w.cfg.Logger.ErrorContext(ctx, "database refuses work: its jobs wait, and it is tried by one at a time",
				"event", "database refuses work", "server", place.Server, "database", place.Database, "class", end.class, "error", end.says)
		}
		w.breakerTrouble(ctx, err)
	case end.state == jobs.Succeeded && (w.refusals.clear(id) || w.lease.Broken(id)):
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakerWrite)
		defer cancel()
		w.pass(ctx, w.breaker("database", id, jobs.ClassReadOnly, place), place, " takes work again")
	}
}

// breakerTrouble: without the row only this process's own breaker holds jobs up.
func (w *Worker) breakerTrouble(ctx context.Context, err error) {
	if err != nil {
		w.cfg.Logger.WarnContext(ctx, "could not write to the central database that a server does not answer, or does again", "error", err)
	}
}

// brief is an error fit for a column. Errors of connecting name no password.
func brief(err error) string {
	if err == nil {
		return ""
	}
	return clean(err.Error(), 500)
}
