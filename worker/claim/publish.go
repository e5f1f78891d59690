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

// publishSQL writes this process's usage.
const publishSQL = `
INSERT INTO headgate.hands (incarnation, hand, waiting) VALUES ($1, $2, $3)
ON CONFLICT (incarnation) DO UPDATE SET hand = excluded.hand, waiting = excluded.waiting`

// forgetSQL takes away the usage of the process's former incarnation.
const forgetSQL = `DELETE FROM headgate.hands WHERE incarnation = $1`

// commit publishes the process's usage, tells those who wait for something that was freed,
// and ends the transaction.
func (c *claimer) commit(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, snap *snapshot, mine *usage, waits bool) error {
	g := c.gate
	g.mu.Lock()
	began := waits && len(g.waiting) == 0
	if g.waiting == nil {
		g.waiting = map[string]bool{}
	}
	if delete(g.waiting, c.queue); waits {
		g.waiting[c.queue] = true
	}
	mine.Waits = slices.Sorted(maps.Keys(g.waiting))
	freed := g.freed
	g.freed = false
	g.mu.Unlock()
	mine.Wants = slices.Sorted(maps.Keys(g.wanted()))
	conns, firm, lapsing := map[string]int{}, map[string]tenantdb.Share{}, 0
	for id, s := range mine.Servers {
		conns[id], firm[id] = s.counted(), tenantdb.Share{Conns: s.counted(), Busy: s.counted() - s.Idle}
		lapsing += s.Idle
	}
	for id, n := range g.publishedConns {
		freed = freed || conns[id] < n && g.own.wanted[id]
	}
	incarnation := c.lease.Incarnation()
	encoded, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	if c.written >= raiseEvery {
		batch.Queue(raiseLowWatermarksSQL, c.queue, watermarkSlack)
		c.written = 0
	}
	if g.asIf != "" && g.asIf != incarnation {
		batch.Queue(forgetSQL, g.asIf) // the former incarnation was declared dead; what it still has is in this row
	}
	changed := !bytes.Equal(encoded, g.published) || g.asIf != incarnation || lapsing > 0 || len(mine.Wants) > 0
	at := time.Time{}
	if changed {
		at = time.Now()
		batch.Queue(publishSQL, incarnation, encoded, len(mine.Waits) > 0)
	}
	var waiters []string
	for _, other := range snap.others {
		waiters = append(waiters, other.Waits...)
	}
	switch {
	case began && len(snap.others) > 0:
		batch.Queue(notifySQL, nil) // from now on they notify when they free something
	case changed && freed && len(waiters) > 0:
		batch.Queue(notifySQL, waiters)
	}
	batch.Queue("COMMIT")
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		g.noteFreed("")
		return fmt.Errorf("committing a claim: %w", err)
	}
	if changed {
		g.published, g.asIf, g.waits, g.at = encoded, incarnation, len(mine.Waits) > 0, at
	}
	g.publishedConns, g.lapsing = conns, lapsing
	kept := 0
	for _, n := range conns {
		kept += n
	}
	g.mu.Lock()
	g.others, g.kept, g.broken = len(waiters) > 0, kept, snap.broken()
	g.mu.Unlock()
	if g.conns != nil {
		g.conns.RaiseAllowance(firm, at)
	}
	return nil
}

// broken are the servers and databases with a breaker.
func (snap *snapshot) broken() map[string]bool {
	ids := map[string]bool{}
	for id := range snap.limits.halfOpen {
		ids[id] = true
	}
	for id := range snap.limits.databases {
		ids[id] = true
	}
	return ids
}

// publishAgainSQL is publishSQL for a row that is not there.
const publishAgainSQL = `
INSERT INTO headgate.hands (incarnation, hand, waiting)
SELECT incarnation, $2, $3 FROM headgate.workers WHERE incarnation = $1 AND reaped_at IS NULL
ON CONFLICT DO NOTHING`

// republish writes this process's row in headgate.hands once more if the row is gone. A
// crash of the central server may have lost the row with the claim that wrote it, and a
// process whose slots are full does not claim again for as long as its jobs take. A claim
// that is under way writes the row itself.
func (l *Lease) republish(ctx context.Context, pool *pgxpool.Pool) error {
	g := l.gate
	if !g.turn.TryLock() {
		return nil
	}
	defer g.turn.Unlock()
	if g.published == nil || g.asIf != l.Incarnation() {
		return nil
	}
	if _, err := pool.Exec(ctx, publishAgainSQL, g.asIf, g.published, g.waits); err != nil {
		return fmt.Errorf("publishing again what this worker is running: %w", err)
	}
	return nil
}
