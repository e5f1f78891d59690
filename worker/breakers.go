package worker

import (
	"context"
	"math/rand/v2"
	"time"

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
	breaker := func(scope, id string) claim.Breaker {
		return claim.Breaker{Scope: scope, ID: id, Worker: w.id, Pause: w.cfg.BreakerPause*4/5 + rand.N(w.cfg.BreakerPause*2/5)} //nolint:gosec // jitter
	}
	if opened == tenantdb.OpenedServer {
		first, err := breaker("server", place.ServerID).Open(ctx, w.cfg.Pool, brief(silence))
		if first {
			log.ErrorContext(ctx, "server does not answer: its jobs wait, and it is tried by one at a time", "event", "server does not answer", "error", silence)
		}
		w.breakerTrouble(ctx, err)
	}
	if opened == tenantdb.OpenedDatabase {
		first, err := breaker("database", place.DatabaseID).Open(ctx, w.cfg.Pool, brief(silence))
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
			w.breakerTrouble(ctx, breaker(scope, id).Fail(ctx, w.cfg.Pool, brief(silence)))
			continue
		}
		since, err := breaker(scope, id).Pass(ctx, w.cfg.Pool, max(place.Budget, 1))
		if since != nil {
			log.InfoContext(ctx, scope+" answers again", "event", scope+" answers again", "database", place.Database, "silent_for", time.Since(*since).Round(time.Second).String())
		}
		w.breakerTrouble(ctx, err)
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
