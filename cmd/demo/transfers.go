package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// move is a row of budget_moves.
type move struct {
	orgID    int64
	uid      string
	from, to int
	points   int64
}

const (
	selectMoves   = `SELECT org_id, job_uid::text, from_brand, to_brand, points FROM budget_moves`
	selectBudgets = `SELECT org_id, brand_id, budget FROM brands`
)

// checkTransfers looks, as the owner, into the databases that had work: each
// job that succeeded must have left one row, nobody else any, and every brand
// must have what it had, less what left, plus what came. That is more than that
// no tenant's total changed, which a transfer done twice would not change
// either.
//
// It returns how many they are.
func (c *cluster) checkTransfers(ctx context.Context, list []jobs.Record) (n int, err error) {
	asked, err := c.asked(list)
	if err != nil {
		return 0, err
	}
	for _, moves := range asked {
		n += len(moves)
	}
	err = c.each(ctx, "checking", func(ctx context.Context, d *database) error {
		if d.idle() {
			return nil
		}
		return d.asOwner(ctx, func(conn *pgx.Conn) error { return d.checkTransfers(ctx, conn, asked[d.name]) })
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// asked returns the moves that jobs were to make, by database.
func (c *cluster) asked(list []jobs.Record) (map[string][]move, error) {
	orgs := map[string]int64{}
	for _, d := range c.databases {
		for _, t := range d.tenants {
			orgs[t.slug] = t.orgID
		}
	}
	asked := map[string][]move{}
	for _, job := range list {
		var args Transfer
		if job.Kind != args.Kind() || job.State != jobs.Succeeded {
			continue
		}
		if err := json.Unmarshal(job.Args, &args); err != nil {
			return nil, fmt.Errorf("reading the arguments of job %s: %w", job.UID, err)
		}
		asked[job.Database] = append(asked[job.Database], move{orgs[job.Tenant], job.UID, args.From, args.To, args.Points})
	}
	return asked, nil
}

func (d *database) checkTransfers(ctx context.Context, conn *pgx.Conn, asked []move) error {
	rows, err := conn.Query(ctx, selectMoves)
	if err != nil {
		return err
	}
	made, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m move, err error) {
		err = row.Scan(&m.orgID, &m.uid, &m.from, &m.to, &m.points)
		return m, err
	})
	if err != nil {
		return err
	}
	byUID := func(a, b move) int { return cmp.Compare(a.uid, b.uid) }
	slices.SortFunc(asked, byUID)
	slices.SortFunc(made, byUID)
	if !slices.Equal(asked, made) {
		return fmt.Errorf("%d transfers were done, but the rows that they left are %d, or others", len(asked), len(made))
	}
	return d.checkBudgets(ctx, conn, made)
}

func (d *database) checkBudgets(ctx context.Context, conn *pgx.Conn, made []move) error {
	want := maps.Clone(d.budgets)
	for _, m := range made {
		want[brandKey{m.orgID, m.from}] -= m.points
		want[brandKey{m.orgID, m.to}] += m.points
	}
	rows, err := conn.Query(ctx, selectBudgets)
	if err != nil {
		return err
	}
	have := map[brandKey]int64{}
	var key brandKey
	var budget int64
	if _, err := pgx.ForEachRow(rows, []any{&key.orgID, &key.brand, &budget}, func() error {
		have[key] = budget
		return nil
	}); err != nil {
		return err
	}
	for key, points := range want {
		if have[key] != points {
			return fmt.Errorf("brand %d of organisation %d has %d points, and should have %d", key.brand, key.orgID, have[key], points)
		}
	}
	return nil
}
