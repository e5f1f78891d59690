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

// replace is put, and says what was there before: of several connections that find the same
// at once, one finds it first.
func (v *verdicts) replace(k key, found verdict) (before verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.found == nil || len(v.found) >= maxVerdicts {
		v.found = map[key]verdict{}
	}
	before = v.found[k]
	v.found[k] = found
	return before
}

// verdict is what the last look at a database has found.
type verdict struct {
	fingerprint string
	looked      time.Time
	observed    bool // as the catalog said then
	open        []protection.Finding
}

func (v *verdicts) get(k key) verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.found[k]
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
		seen.looked, seen.observed = now, place.Observed
		p.tellProtection(ctx, place, p.verdicts.replace(at, seen), seen)
		known = seen
	}
	if len(known.open) == 0 || place.Observed {
		return nil
	}
	more := ""
	if n := len(known.open) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return connectError(ctx, place, fmt.Errorf("%w, so its jobs wait: %s%s: `headgate database protect %s` lists what is open and says what to do",
		ErrUnprotected, known.open[0].Says, more, place.Database))
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
	return verdict{fingerprint: report.Fingerprint, open: report.Open()}, nil
}

// tellProtection is one line for each change of what is found, or of what becomes of it.
func (p *Pools) tellProtection(ctx context.Context, place address.Place, before, now verdict) {
	was, is := len(before.open), len(now.open)
	switch {
	case is == 0 && was > 0:
		p.cfg.Logger.InfoContext(ctx, "the database keeps its tenants apart again", "database", place.Database)
	case is == 0, was > 0 && before.observed == now.observed && before.fingerprint == now.fingerprint:
	case now.observed:
		p.cfg.Logger.WarnContext(ctx, "the database does not keep its tenants apart; its jobs run, because that is only observed",
			"database", place.Database, "findings", is, "first", now.open[0].Says)
	default:
		p.cfg.Logger.ErrorContext(ctx, "the database does not keep its tenants apart; its jobs wait",
			"database", place.Database, "findings", is, "first", now.open[0].Says)
	}
}
