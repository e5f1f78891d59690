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

// lookTime bounds one look, whatever time a job has.
const lookTime = 30 * time.Second

// verdicts is what this process has found in the shared databases that it has worked in.
type verdicts struct {
	mu      sync.Mutex
	found   map[key]verdict       // guarded by mu
	looking map[key]chan struct{} // guarded by mu; closed when the look ends
}

// turn waits until nobody else of this process looks at a database, and returns what ends the
// caller's turn. Many jobs that begin at once look once.
func (v *verdicts) turn(ctx context.Context, k key) (end func(), err error) {
	for {
		v.mu.Lock()
		busy, ok := v.looking[k]
		if !ok {
			mine := make(chan struct{})
			if v.looking == nil {
				v.looking = map[key]chan struct{}{}
			}
			v.looking[k] = mine
			v.mu.Unlock()
			return func() {
				v.mu.Lock()
				defer v.mu.Unlock()
				delete(v.looking, k)
				close(mine)
			}, nil
		}
		v.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another look at the database's protection: %w", context.Cause(ctx))
		}
	}
}

// replace says what was there before.
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
// In a dedicated database only a job that is limited to a brand (ofBrand) is looked at for:
// the tables that are declared to keep brands apart must do so.
//
// It looks again where the last look is older than Config.ProtectedFor: first at a
// fingerprint, and at all only where that has changed. Of several jobs of a database one
// looks, and the others wait for it. The error is a *[ConnectError] that matches
// ErrUnprotected, or says why it could not look.
func (p *Pools) Preflight(ctx context.Context, place address.Place, conn *Conn, ofBrand bool) error {
	if place.Dedicated && !ofBrand || place.Login != jobs.LoginJob.String() {
		return nil
	}
	at := keyOf(place)
	known, err := p.verdictOf(ctx, at, place, conn)
	if err != nil {
		return connectError(ctx, place, err)
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

// verdictOf returns what is known, and looks again if that is too old.
func (p *Pools) verdictOf(ctx context.Context, at key, place address.Place, conn *Conn) (verdict, error) {
	if known := p.verdicts.get(at); time.Since(known.looked) < p.cfg.ProtectedFor {
		return known, nil
	}
	end, err := p.verdicts.turn(ctx, at)
	if err != nil {
		return verdict{}, err
	}
	defer end()
	known, now := p.verdicts.get(at), time.Now()
	if now.Sub(known.looked) < p.cfg.ProtectedFor { // another has looked meanwhile
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	seen, err := p.look(ctx, place, conn, known)
	if err != nil {
		return verdict{}, err
	}
	seen.looked, seen.observed = now, place.Observed
	p.tellProtection(ctx, place, p.verdicts.replace(at, seen), seen)
	return seen, nil
}

// look returns what is so now. known is what was so before.
func (p *Pools) look(ctx context.Context, place address.Place, conn *Conn, known verdict) (verdict, error) {
	fingerprint, err := protection.Fingerprint(ctx, conn.Conn)
	if err != nil || fingerprint == known.fingerprint {
		return known, err
	}
	report, err := protection.Inspect(ctx, conn.Conn, protection.Options{Dedicated: place.Dedicated, Database: place.Database})
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
