package claim_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Jobs that need no connection wait with the others behind an open breaker of their tenant's
// server or database. When a server's breaker has something tried, they all go on, because
// they use none of its trials; behind a database's they are let through as the others are.
func TestKindsWithoutAConnectionBehindABreaker(t *testing.T) {
	t.Parallel()
	for scope, tried := range map[string]int{"server": 4, "database": 1} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1, 1)
			f.exec(addJobs, 8, "a", 1, 1)
			p := f.process(4, "a")
			p.lease.Apart([]string{"a"})
			ctx := context.Background()
			f.exec(`INSERT INTO headgate.breakers (scope, id, until) SELECT $1, id, now() + '1 hour' FROM headgate.`+scope+`s`, scope)
			require.Empty(t, p.claim(ctx, 4))
			f.exec(`UPDATE headgate.breakers SET until = now()`)
			trial := p.claim(ctx, 4)
			require.Len(t, trial, tried)
			p.finish(trial...)
			f.exec(`DELETE FROM headgate.breakers`)
			require.Len(t, p.claim(ctx, 4), 4, "the control")
		})
	}
}
