package worker_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A claim is committed and its answer lost: the rows are running, under a worker
// that lives and knows nothing of them. It gives them back.
func TestAClaimWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	const losses = 5
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	var lost atomic.Int64
	cfg := beatEvery(env.Config(), quickBeat)
	cfg.Pool = losingPool(t, env.URL, losses, &lost)
	var uids []string
	for range 30 {
		result, err := env.Client.Enqueue(context.Background(), "acme", Ending{}, &jobs.EnqueueOpts{Timeout: time.Minute})
		require.NoError(t, err)
		uids = append(uids, result.UID)
	}
	cfg.Queues = map[string]int{"default": 4}
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
	for _, uid := range uids {
		got := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, got.State, got.Message)
		require.Equal(t, 1, got.Attempt)
	}
	require.EqualValues(t, losses, lost.Load(), "claims whose answer was lost")
}

// Short jobs end while a claim looks for others, and it takes more than River asked
// for: never more than fit, and the next claim comes without a poll.
func TestShortJobsFillTheirSlots(t *testing.T) {
	t.Parallel()
	const slots, all = 8, 2000
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	items := make([]jobs.EnqueueParams, all)
	for i := range items {
		items[i] = jobs.EnqueueParams{Tenant: "acme", Args: Ping{}}
	}
	_, err := env.Client.EnqueueMany(context.Background(), items)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.Queues, cfg.FetchCooldown = map[string]int{"default": slots}, time.Millisecond
	if !cfg.PollOnly {
		cfg.PollInterval = time.Hour
	}
	cfg.HeartbeatEvery, cfg.DeadAfter = time.Hour, 3*time.Hour // so that no other timer brings a claim
	var running, most atomic.Int64
	ended := make(chan struct{}, all)
	env.Work(&cfg, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[Ping]) error {
			now := running.Add(1)
			for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
			}
			runtime.Gosched()
			running.Add(-1)
			ended <- struct{}{}
			return nil
		})
	})
	for n := range all {
		select {
		case <-ended:
		case <-time.After(time.Minute): // without one more
			require.Failf(t, "nobody claimed the rest", "%d of %d jobs ran", n, all)
		}
	}
	require.LessOrEqual(t, most.Load(), int64(slots))
}

// losingPool is a pool that loses the answers to the first n claims that found
// something.
func losingPool(t *testing.T, url string, n int64, lost *atomic.Int64) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &losingConn{Conn: conn, n: n, lost: lost}, err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// losingConn breaks when the answer to a claim arrives.
type losingConn struct {
	net.Conn
	n        int64
	lost     *atomic.Int64
	claiming atomic.Bool
}

var tokenText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}:[0-9]+`)

func (c *losingConn) Write(b []byte) (int, error) {
	if tokenText.Match(b) && !bytes.Contains(b, []byte("completed")) {
		c.claiming.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *losingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.claiming.Load() && bytes.Contains(b[:n], []byte("UPDATE ")) {
		c.claiming.Store(false)
		if !bytes.Contains(b[:n], []byte("UPDATE 0\x00")) && c.lost.Add(1) <= c.n {
			_ = c.Close()
			return 0, io.ErrUnexpectedEOF
		}
		if c.lost.Load() > c.n {
			c.lost.Store(c.n)
		}
	}
	return n, err
}
