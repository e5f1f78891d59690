package worker_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/suspend"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// SlowTransfer is Transfer that spends some time inside its transaction.
type SlowTransfer struct {
	Transfer
	MS int `json:"ms"`
}

func (SlowTransfer) Kind() string { return "slow-transfer" }

// BareTransfer is the same work as a careful engineer would write it without
// Headgate: one transaction of its own, no ledger. It is the control: if the
// faults do not double it, they prove nothing about the other.
type BareTransfer SlowTransfer

func (BareTransfer) Kind() string { return "bare-transfer" }

// Poison kills the process that runs it.
type Poison struct{}

func (Poison) Kind() string { return "poison" }

// Freeze stops the process that runs it, in the middle of its transaction.
type Freeze struct {
	Transfer
	Flag string `json:"flag"` // a file that the first to remove it freezes
}

func (Freeze) Kind() string { return "freeze" }

func (Freeze) KindOpts() jobs.KindOpts { return jobs.KindOpts{IdleTimeout: freezeIdle} }

const freezeIdle = 4 * time.Second

// bareEffect goes before the UID of a [BareTransfer] whose effect is committed.
const bareEffect = "bare "

// registerVictimKinds is what the victims and the survivor know. began is called
// behind begin_job, and with [bareEffect] when a [BareTransfer] has committed: that
// handler still has something to do, as one that sends a receipt has.
func registerVictimKinds(w *worker.Worker, began func(uid string)) {
	slow := func(ctx context.Context, tx pgx.Tx, job *jobs.Job[SlowTransfer]) error {
		if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, float64(job.Args.MS)/1000); err != nil {
			return err
		}
		return transfer(ctx, tx, &jobs.Job[Transfer]{Info: job.Info, Args: job.Args.Transfer})
	}
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[SlowTransfer]) error {
		began(job.UID)
		return slow(ctx, tx, job)
	})
	worker.InTx(w, crash(began))
	worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Poison]) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Freeze]) error {
		if os.Remove(job.Args.Flag) == nil {
			began(job.UID)
			suspend.Process()
		}
		return transfer(ctx, tx, &jobs.Job[Transfer]{Info: job.Info, Args: job.Args.Transfer})
	})
	// The form without a ledger row, and a connection that Headgate knows nothing of.
	worker.ReadOnly(w, func(ctx context.Context, read pgx.Tx, job *jobs.Job[BareTransfer]) error {
		conn, err := pgx.ConnectConfig(ctx, read.Conn().Config())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT pretend($1)`, job.Tenant.OrgID); err != nil {
				return err
			}
			return slow(ctx, tx, &jobs.Job[SlowTransfer]{Info: job.Info, Args: SlowTransfer(job.Args)})
		})
		if err != nil {
			return err
		}
		began(bareEffect + job.UID)
		_, err = read.Exec(ctx, `SELECT pg_sleep($1)`, float64(job.Args.MS)/1000)
		return err
	})
}

const (
	envVictim      = "HEADGATE_TEST_VICTIM" // its ID; makes this binary a worker
	envVictimURL   = "HEADGATE_TEST_VICTIM_URL"
	envVictimBeat  = "HEADGATE_TEST_VICTIM_BEAT"  // heartbeat; taken for dead after this many times four
	envVictimQueue = "HEADGATE_TEST_VICTIM_QUEUE" // default victimQueue
	envVictimSlots = "HEADGATE_TEST_VICTIM_SLOTS" // default 8
)

// victimQueue is the one that victims work, unless told otherwise.
const victimQueue = "killed"

// beatEvery sets a worker's heartbeat. "0" means the product's default times.
func beatEvery(cfg worker.Config, beat time.Duration) worker.Config {
	cfg.HeartbeatEvery, cfg.DeadAfter = beat, 4*beat
	return cfg
}

// quickBeat is the heartbeat of most tests here: 0.5 s, dead after 2 s.
const quickBeat = 500 * time.Millisecond

// victimMain is the main function of a process that is there to be killed. It
// says on standard output which jobs have begun.
func victimMain() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(envVictimURL))
	if err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, pool)
	if err != nil {
		return err
	}
	beat, err := time.ParseDuration(os.Getenv(envVictimBeat))
	if err != nil {
		return err
	}
	slots, err := strconv.Atoi(cmp.Or(os.Getenv(envVictimSlots), "8"))
	if err != nil {
		return err
	}
	w, err := worker.New(beatEvery(worker.Config{
		Pool: pool, Resolver: cat, ID: os.Getenv(envVictim), Queues: map[string]int{cmp.Or(os.Getenv(envVictimQueue), victimQueue): slots},
		FetchCooldown: 5 * time.Millisecond, PollInterval: 100 * time.Millisecond, HoldFor: 100 * time.Millisecond,
		RetryDelay: func(int) time.Duration { return 10 * time.Millisecond },
	}, beat))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	registerVictimKinds(w, func(uid string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(os.Stdout, uid)
	})
	return w.Run(ctx)
}

// victim is a running worker process and what it said.
type victim struct {
	id     string
	cmd    *exec.Cmd
	eof    chan struct{}
	began  chan string // receives what began, while there is room
	struck []time.Time // when it was stopped or killed

	mu   sync.Mutex
	open map[string]bool // guarded by mu: jobs that began
	bare map[string]bool // guarded by mu: control jobs whose effect is committed
}

// newVictim starts a worker process. The test kills it at its end, if it lives.
func newVictim(t *testing.T, env *jobstest.Env, id string, beat time.Duration, more ...string) *victim {
	t.Helper()
	v := &victim{id: id, cmd: exec.Command(os.Args[0]), eof: make(chan struct{}), began: make(chan string, 64), open: map[string]bool{}, bare: map[string]bool{}}
	v.cmd.Env = append(append(os.Environ(), envVictim+"="+id, envVictimURL+"="+env.URL, "HEADGATE_KEY="+env.Key,
		envVictimBeat+"="+beat.String()), more...)
	if file := os.Getenv("HEADGATE_TEST_VICTIM_LOG"); file != "" {
		log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		v.cmd.Stderr = log
		t.Cleanup(func() { _ = log.Close() })
	} else {
		v.cmd.Stderr = jobstest.SearchedWriter(t, "a worker process", io.Discard)
	}
	out, err := v.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, v.cmd.Start())
	go func() {
		defer close(v.eof)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			v.note(strings.TrimSpace(lines.Text()))
		}
	}()
	t.Cleanup(func() {
		if v.cmd.ProcessState == nil {
			_ = v.cmd.Process.Kill()
			<-v.eof
			_ = v.cmd.Wait()
		}
	})
	return v
}

func (v *victim) note(uid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if bare, ok := strings.CutPrefix(uid, bareEffect); ok {
		v.bare[bare] = true
		return
	}
	v.open[uid] = true
	select {
	case v.began <- uid:
	default:
	}
}

// stop suspends the process as if its machine were, and wakes it later unless it
// was killed meanwhile. It returns as [victim.inflightRow] does.
func (v *victim) stop(t *testing.T, env *jobstest.Env, d time.Duration) int {
	t.Helper()
	require.NoError(t, v.cmd.Process.Signal(syscall.SIGSTOP))
	v.struck = append(v.struck, time.Now())
	time.AfterFunc(d, func() { _ = v.cmd.Process.Signal(syscall.SIGCONT) })
	return v.inHand(t, env)
}

// work waits until the process has begun a job since it was last asked. A machine that is
// busy otherwise lets a process start and claim slowly, and a fault in a process that does
// nothing yet shows nothing.
func (v *victim) work(within time.Duration) {
	select {
	case <-v.began:
	case <-time.After(within):
	}
}

// started says that the process has begun to work.
func (v *victim) started(t *testing.T, env *jobstest.Env) (started bool) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM headgate.workers WHERE worker = $1 AND beats > 1)`, v.id).Scan(&started))
	return started
}

// kill ends the process with SIGKILL and returns as [victim.inflightRow] does.
func (v *victim) kill(t *testing.T, env *jobstest.Env) int {
	t.Helper()
	require.NoError(t, v.cmd.Process.Kill())
	v.struck = append(v.struck, time.Now())
	v.died(t)
	return v.inHand(t, env)
}

// died waits until the process has ended by SIGKILL.
func (v *victim) died(t *testing.T) {
	t.Helper()
	receive(t, v.eof)
	var exit *exec.ExitError
	if err := v.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("worker %s ended of itself instead of by SIGKILL: %v", v.id, err)
	}
}

// inflightRow is how many of the process's jobs have begun and are not completed.
func (v *victim) inHand(t *testing.T, env *jobstest.Env) int {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `SELECT job_uid::text FROM headgate.outcomes WHERE worker = $1`, v.id)
	require.NoError(t, err)
	completed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, uid := range completed {
		delete(v.open, uid)
		delete(v.bare, uid)
	}
	return len(v.open)
}

// exposed is how many control jobs a killed process had committed and not
// completed, as of [victim.kill]: each of them will have its effect again.
func (v *victim) exposed() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.bare)
}
