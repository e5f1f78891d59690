package tenantdb

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// ErrUnprotected: a job of one tenant of a shared database could reach the rows of another.
var ErrUnprotected = jobs.Sentinel("unprotected", "the database does not keep its tenants apart")

// maxVerdicts bounds what a process remembers. More than that are forgotten together, and
// each is looked at again.
const maxVerdicts = 10_000

// verdicts is what this process has found in the shared databases that it has worked in.
type verdicts struct {
	mu    sync.Mutex
	found map[key]verdict // guarded by mu
}

// verdict is what the last look at a database has found.
type verdict struct {
	fingerprint string
	looked      time.Time
	open        []protection.Finding
}

func (v *verdicts) get(k key) verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.found[k]
}

func (v *verdicts) put(k key, found verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.found == nil || len(v.found) >= maxVerdicts {
		v.found = map[key]verdict{}
	}
	v.found[k] = found
}

// Preflight says whether a tenant's job may run on a connection: not if the database is
// shared and does not keep its tenants apart, unless the catalog says that this is only
// observed. Call it before the job's transaction.
//
// It looks again where the last look is older than Config.ProtectedFor: first at a
// fingerprint, and at all only where that has changed. No lock is held meanwhile, so that
// several connections may look at once. The error is a *[ConnectError] that matches
// ErrUnprotected, or says why it could not look.
func (p *Pools) Preflight(ctx context.Context, place address.Place, conn *Conn) error {
	if place.Dedicated || place.Login != jobs.LoginJob.String() {
		return nil
	}
	at := keyOf(place)
	known := p.verdicts.get(at)
	if now := time.Now(); now.Sub(known.looked) >= p.cfg.ProtectedFor {
		seen, err := p.look(ctx, place, conn, known)
		if err != nil {
			return connectError(ctx, place, err)
		}
		seen.looked = now
		p.verdicts.put(at, seen)
		known = seen
	}
	if len(known.open) == 0 || place.Observed {
		return nil
	}
	return connectError(ctx, place, fmt.Errorf("%w, so its jobs wait: %s (%d findings): `headgate database protect %s` lists them and says what to do",
		ErrUnprotected, known.open[0].Says, len(known.open), place.Database))
}

// look returns what is so now. known is what was so before.
func (p *Pools) look(ctx context.Context, place address.Place, conn *Conn, known verdict) (verdict, error) {
	fingerprint, err := protection.Fingerprint(ctx, conn)
	if err != nil || fingerprint == known.fingerprint {
		return known, err
	}
	report, err := protection.Inspect(ctx, conn.Conn, protection.Options{Database: place.Database})
	if err != nil {
		return known, err
	}
	open := report.Open()
	switch {
	case len(open) > 0 && place.Observed:
		p.cfg.Logger.WarnContext(ctx, "the database does not keep its tenants apart; its jobs run, because that is only observed",
			"database", place.Database, "findings", len(open), "first", open[0].Says)
	case len(open) > 0 && len(known.open) == 0:
		p.cfg.Logger.ErrorContext(ctx, "the database does not keep its tenants apart; its jobs wait",
			"database", place.Database, "findings", len(open), "first", open[0].Says)
	case len(open) == 0 && len(known.open) > 0:
		p.cfg.Logger.InfoContext(ctx, "the database keeps its tenants apart again", "database", place.Database)
	}
	return verdict{fingerprint: report.Fingerprint, open: open}, nil
}
