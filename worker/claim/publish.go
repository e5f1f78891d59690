package claim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/worker/tenantdb"
)

// publishSQL says what this process holds.
const publishSQL = `
INSERT INTO headgate.hands (incarnation, hand, waiting) VALUES ($1, $2, $3)
ON CONFLICT (incarnation) DO UPDATE SET hand = excluded.hand, waiting = excluded.waiting`

// forgetSQL takes away what the process held under its former name.
const forgetSQL = `DELETE FROM headgate.hands WHERE incarnation = $1`

// commit publishes what the process holds, tells those who wait for some of it,
// and ends the transaction.
func (c *claimer) commit(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, v *view, mine *hold, waits bool) error {
	d := c.desk
	d.mu.Lock()
	began := waits && len(d.waiting) == 0
	if d.waiting == nil {
		d.waiting = map[string]bool{}
	}
	if delete(d.waiting, c.queue); waits {
		d.waiting[c.queue] = true
	}
	mine.Waits = slices.Sorted(maps.Keys(d.waiting))
	given := d.given
	d.given = false
	d.mu.Unlock()
	mine.Wants = slices.Sorted(maps.Keys(d.wanted()))
	places, firm, lapsing := map[string]int{}, map[string]tenantdb.Share{}, 0
	for id, h := range mine.Servers {
		places[id], firm[id] = h.places(), tenantdb.Share{Conns: h.places(), Busy: h.places() - h.Idle}
		lapsing += h.Idle
	}
	for id, n := range d.places {
		given = given || places[id] < n && d.own.wanted[id]
	}
	incarnation := c.lease.Incarnation()
	hand, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	if c.written >= raiseEvery {
		batch.Queue(raiseFloorsSQL, c.queue, floorSlack)
		c.written = 0
	}
	if d.asIf != "" && d.asIf != incarnation {
		batch.Queue(forgetSQL, d.asIf) // it was declared dead; what it still has is in this row
	}
	changed := !bytes.Equal(hand, d.published) || d.asIf != incarnation || lapsing > 0 || len(mine.Wants) > 0
	at := time.Time{}
	if changed {
		at = time.Now()
		batch.Queue(publishSQL, incarnation, hand, len(mine.Waits) > 0)
	}
	var waiters []string
	for _, other := range v.others {
		waiters = append(waiters, other.Waits...)
	}
	switch {
	case began && len(v.others) > 0:
		batch.Queue(ringSQL, nil) // from now on they ring when they give something back
	case changed && given && len(waiters) > 0:
		batch.Queue(ringSQL, waiters)
	}
	batch.Queue("COMMIT")
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		d.gave("")
		return fmt.Errorf("committing a claim: %w", err)
	}
	if changed {
		d.published, d.asIf, d.waits, d.at = hand, incarnation, len(mine.Waits) > 0, at
	}
	d.places, d.lapsing = places, lapsing
	kept := 0
	for _, n := range places {
		kept += n
	}
	d.mu.Lock()
	d.others, d.kept, d.broken = len(waiters) > 0, kept, v.broken()
	d.mu.Unlock()
	if d.conns != nil {
		d.conns.Allow(firm, at)
	}
	return nil
}

// broken are the servers and databases with a breaker.
func (v *view) broken() map[string]bool {
	ids := map[string]bool{}
	for id := range v.limits.halfOpen {
		ids[id] = true
	}
	for id := range v.limits.databases {
		ids[id] = true
	}
	return ids
}

// publishAgainSQL is publishSQL for a row that is not there.
const publishAgainSQL = `
INSERT INTO headgate.hands (incarnation, hand, waiting)
SELECT incarnation, $2, $3 FROM headgate.workers WHERE incarnation = $1 AND reaped_at IS NULL
ON CONFLICT DO NOTHING`

// republish writes this process's row in headgate.hands once more if it is gone: a crash
// of the central server may have lost it with the claim that wrote it, and a process
// whose slots are full does not claim again for as long as its jobs take. A claim that
// is under way writes the row itself.
func (l *Lease) republish(ctx context.Context, pool *pgxpool.Pool) error {
	d := l.desk
	if !d.turn.TryLock() {
		return nil
	}
	defer d.turn.Unlock()
	if d.published == nil || d.asIf != l.Incarnation() {
		return nil
	}
	if _, err := pool.Exec(ctx, publishAgainSQL, d.asIf, d.published, d.waits); err != nil {
		return fmt.Errorf("publishing again what this worker is running: %w", err)
	}
	return nil
}
