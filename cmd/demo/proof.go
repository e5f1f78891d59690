package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// visits are the sessions of one database, as Postgres itself knows them. It
// counts a session when it has ended, or after a while; until then it is among
// the open ones. None escapes both.
type visits struct{ counted, open int64 }

// sinceSetUp is how many there were beside those of the set-up.
func (v visits) sinceSetUp() int64 { return max(v.counted-setUpSessions, v.open) }

// any says whether there was one.
func (v visits) any() bool { return v.sinceSetUp() > 0 }

const selectVisits = `
SELECT d.datname, d.sessions,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.datid AND a.backend_type = 'client backend')
FROM pg_stat_database d`

// visits asks Postgres who entered which tenant database.
func (c *cluster) visits(ctx context.Context) (map[*database]visits, error) {
	rows, err := c.admin.Query(ctx, selectVisits)
	if err != nil {
		return nil, fmt.Errorf("counting sessions: %w", err)
	}
	byName := map[string]visits{}
	var name *string // NULL: tables that all databases share
	var v visits
	_, err = pgx.ForEachRow(rows, []any{&name, &v.counted, &v.open}, func() error {
		if name != nil {
			byName[*name] = v
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting sessions: %w", err)
	}
	found := map[*database]visits{}
	for _, d := range c.databases {
		found[d] = byName[d.name]
	}
	return found, nil
}

// settle waits until Postgres has counted the set-up's own sessions, and no
// others. So the measure is proved before it is used: had the set-up's visits
// not been seen, a worker's would not be either.
func (c *cluster) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second,
		errors.New("the sessions of the set-up do not show in pg_stat_database; nothing could be proved"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := c.visits(ctx)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if settled(found) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func settled(found map[*database]visits) bool {
	for _, v := range found {
		if v.counted != setUpSessions || v.open > 0 {
			return false
		}
	}
	return true
}
