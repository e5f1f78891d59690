package capacity

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
)

// selectSessions counts the sessions in the copy ($1), and those of workers in the other
// databases of the server ($2).
const selectSessions = `
SELECT count(*) FILTER (WHERE datname = $1)::int,
       count(*) FILTER (WHERE datname = ANY ($2) AND application_name LIKE 'headgate%')::int
FROM pg_stat_activity WHERE datname = $1 OR datname = ANY ($2)`

const (
	watchEvery = 100 * time.Millisecond
	overLong   = 10 // looks in a row that find the budget exceeded
)

// watch looks at the connections until ended is closed, and notes how many there were at
// most. It is an error when the test and the server's workers together are above the
// server's budget for a second: the workers come first.
func (s *stage) watch(ctx context.Context, ended <-chan struct{}) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	over := 0
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		var ours, others int
		if err := s.copied.admin.QueryRow(ctx, selectSessions, s.copied.name, s.run.Others).Scan(&ours, &others); err != nil {
			return fmt.Errorf("counting the connections on the server: %w", err)
		}
		s.most.Store(max(s.most.Load(), int64(ours)))
		if over++; ours+1+others <= s.run.Server.Budget {
			over = 0
		}
		if over >= overLong {
			return fmt.Errorf("the workers of server %s have %s and the test %d, more than the budget of %d together: the test makes room; run the command again when less is to be done, or with fewer --connections",
				s.run.Server.Name, jobs.Count(others, "connection"), ours+1, s.run.Server.Budget)
		}
	}
}
