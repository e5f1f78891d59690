package tenantdb_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
)

// slowAnswer is a connection whose server takes its time to answer, as PgBouncer
// does with a cancel request while the statement ends.
type slowAnswer struct {
	net.Conn
	answered, hungUp *atomic.Bool
}

func (c slowAnswer) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	<-time.After(300 * time.Millisecond)
	c.answered.Store(true)
	return n, err
}

func (c slowAnswer) SetDeadline(at time.Time) error {
	if !at.IsZero() && !c.answered.Load() {
		c.hungUp.Store(true)
	}
	return c.Conn.SetDeadline(at)
}

// A cancel request is not given up when the statement has ended before it is
// answered: PgBouncer would die of that. pgx's own handler is the control.
func TestACancelRequestWaitsForItsAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		build  func(*pgconn.PgConn) ctxwatch.Handler
		hungUp bool
	}{
		"ours": {func(conn *pgconn.PgConn) ctxwatch.Handler { return tenantdb.NewCanceller(conn, 20*time.Second) }, false},
		"pgx's": {func(conn *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 20 * time.Second}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := pgconn.ParseConfig(jobstest.Direct(t).URL("postgres"))
			require.NoError(t, err)
			var dials atomic.Int64
			var answered, hungUp atomic.Bool
			dial := cfg.DialFunc
			cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				if err == nil && dials.Add(1) > 1 {
					conn = slowAnswer{conn, &answered, &hungUp}
				}
				return conn, err
			}
			cfg.BuildContextWatcherHandler = c.build
			conn, err := pgconn.ConnectConfig(context.Background(), cfg)
			require.NoError(t, err)
			defer func() { _ = conn.Close(context.Background()) }()
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err = conn.Exec(ctx, `SELECT pg_sleep(600)`).ReadAll()
			require.Error(t, err)
			require.Less(t, time.Since(began), 5*time.Minute, "it was cancelled")
			require.EqualValues(t, 2, dials.Load())
			require.Equal(t, c.hungUp, hungUp.Load())
			if !c.hungUp {
				require.True(t, answered.Load())
				_, err = conn.Exec(context.Background(), `SELECT 1`).ReadAll()
				require.NoError(t, err, "the connection is as good as before")
			}
		})
	}
}
