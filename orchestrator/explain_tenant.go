package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// TenantExplanation answers how a tenant's work stands, and what stops it.
type TenantExplanation struct {
	Tenant string        `json:"tenant"` // slug
	Status string        `json:"status"`
	Plan   string        `json:"plan"`
	Work   []TenantWork  `json:"work"`
	Limits []TenantLimit `json:"limits"`
	Facts  []Fact        `json:"facts"` // what stops it, in order; else its share
}

// TenantWork is a tenant's work of one kind in one queue.
type TenantWork struct {
	Queue   string     `json:"queue"`
	Kind    string     `json:"kind"`
	Waiting int        `json:"waiting"` // jobs that are available, counted to 1,000
	Running int        `json:"running"` // jobs, as of the workers' last claims
	Before  int        `json:"before"`  // tenants' kinds that had less service, counted to 1,000
	Until   *time.Time `json:"until"`   // until when nothing of it is due or allowed, where that is known
}

// maxLanes bounds the kinds and queues of one tenant that are looked at.
const maxLanes = 50

// lanesOfSQL walks the lanes of an owner, those with work first.
const lanesOfSQL = `
SELECT queue, kind FROM headgate.lanes WHERE lane = $1 ORDER BY active DESC, queue, kind LIMIT $2`

// ExplainTenant says what waits and runs of a tenant, and what stops it: the rows
// by which workers claim, as of one moment. Its cost does not grow with the queue.
// Work that no worker has ever looked for is not known yet. The error matches
// jobs.ErrUnknownTenant.
func (c *Client) ExplainTenant(ctx context.Context, tenant string) (TenantExplanation, error) {
	found, err := c.catalog.Tenant(ctx, tenant)
	if err != nil {
		return TenantExplanation{}, err
	}
	e := TenantExplanation{Tenant: found.Slug, Status: string(found.Status), Plan: found.Plan, Work: []TenantWork{}}
	if e.Limits, err = c.TenantLimits(ctx, found.ID); err != nil {
		return e, err
	}
	rows, err := c.pool.Query(ctx, lanesOfSQL, found.ID, maxLanes)
	if err != nil {
		return e, fmt.Errorf("explaining tenant %s: %w", found.Slug, err)
	}
	standings, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*standing, error) {
		s := &standing{owner: found.ID}
		return s, row.Scan(&s.queue, &s.kind)
	})
	if err != nil {
		return e, fmt.Errorf("explaining tenant %s: %w", found.Slug, err)
	}
	own := &standing{owner: found.ID}
	if err := c.askAll(ctx, append(standings, own)); err != nil {
		return e, fmt.Errorf("tenant %s: %w", found.Slug, err)
	}
	e.explain(own, standings)
	return e, nil
}

// explain is the rule of ExplainTenant.
func (e *TenantExplanation) explain(own *standing, standings []*standing) {
	e.Facts = own.facts()
	waits := false
	for _, s := range standings {
		work := TenantWork{Queue: s.queue, Kind: s.kind, Waiting: s.turn.waiting, Running: s.held.ownerKind, Before: s.turn.before}
		if !s.turn.active {
			work.Until = usual(s.turn.wakeAt)
		}
		e.Work = append(e.Work, work)
		if s.turn.waiting > 0 {
			waits = true
			e.Facts = append(e.Facts, s.facts()...)
		}
	}
	known := map[string]bool{}
	e.Facts = slices.DeleteFunc(e.Facts, func(f Fact) bool {
		twice := known[f.Fact]
		known[f.Fact] = true
		return twice
	})
	slices.SortStableFunc(e.Facts, func(a, b Fact) int { return cmp.Compare(slices.Index(stops, a.Code), slices.Index(stops, b.Code)) })
	if !waits {
		e.Facts = append(e.Facts, Fact{Code: CodeNoWork, Fact: "nothing of tenant " + e.Tenant + " waits that a worker has looked for"})
	}
	for _, s := range standings {
		if share, ok := s.share(); ok && !known[share.Fact] {
			known[share.Fact] = true
			e.Facts = append(e.Facts, share)
		}
	}
}
