package claim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
)

// Through our driver River behaves as through its own: each behaviour runs on
// both, and what can be seen of it must be the same. Where we differ on purpose
// is in difference_test.go.
func TestConformance(t *testing.T) {
	t.Parallel()
	rigs := []*rig{newRig(t, false), newRig(t, true)}
	for _, r := range rigs {
		b := &bench{rig: r, ctx: context.Background(), queue: "scheduled"}
		seedScheduled(b)
		r.start(t, func(cfg *river.Config) {
			cfg.Queues["scheduled"] = river.QueueConfig{MaxWorkers: 5}
			cfg.PeriodicJobs = []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(never),
				func() (river.JobArgs, *river.InsertOpts) {
					return act{Do: "periodic"}, &river.InsertOpts{Queue: "periodic"}
				}, &river.PeriodicJobOpts{ID: "hourly", RunOnStart: true})}
		})
	}
	benches := map[string][]*bench{}
	var all sync.WaitGroup
	for name, behave := range behaviours {
		for _, r := range rigs {
			b := &bench{rig: r, ctx: context.Background(), queue: strings.ReplaceAll(name, " ", "_")}
			benches[name] = append(benches[name], b)
			if b.queue != "scheduled" {
				require.NoError(t, r.client.Queues().Add(b.queue, river.QueueConfig{MaxWorkers: 5}))
			}
			all.Go(func() { behave(b) })
		}
	}
	all.Wait()
	for name, pair := range benches {
		t.Run(name, func(t *testing.T) { compare(t, pair[0], pair[1]) })
	}
}

// Stopping, which needs clients of its own.
func TestConformanceOfStopping(t *testing.T) {
	t.Parallel()
	var pair []*bench
	for _, r := range []*rig{newRig(t, false), newRig(t, true)} {
		pair = append(pair, &bench{rig: r, ctx: context.Background(), queue: "default"})
	}
	var both sync.WaitGroup
	for _, b := range pair {
		both.Go(func() { stopping(t, b) })
	}
	both.Wait()
	compare(t, pair[0], pair[1])
}

func stopping(t *testing.T, b *bench) {
	began, free := make(chan int64, 8), make(chan struct{})
	b.on("hold", serverUsage(began, free))

	b.start(t, func(cfg *river.Config) { cfg.Queues["second"] = river.QueueConfig{MaxWorkers: 5} })
	require.NoError(b, b.client.QueuePause(b.ctx, "*", nil))
	b.paused("default", river.EventKindQueuePaused)
	b.paused("second", river.EventKindQueuePaused)
	first, second := b.insert("", nil), b.insert("", &river.InsertOpts{Queue: "second"})
	b.note(b.row(first), b.row(second))
	require.NoError(b, b.client.QueueResume(b.ctx, "*", nil))
	b.until(first, rivertype.JobStateCompleted)
	b.until(second, rivertype.JobStateCompleted)

	running := b.insert("hold", nil)
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- b.client.Stop(b.ctx) }()
	b.note("stopping", b.row(running))
	close(free)
	require.NoError(b, <-stopped)
	b.note("stopped", b.row(running))

	b.on("hold", serverUsage(began, nil))
	b.start(t, nil)
	running = b.insert("hold", &river.InsertOpts{MaxAttempts: 1})
	<-began
	b.pause("default")
	require.NoError(b, b.client.StopAndCancel(b.ctx))
	b.note("cancelled by stopping", b.row(running))

	b.start(t, func(cfg *river.Config) { cfg.SoftStopTimeout = 5 * time.Millisecond })
	require.NoError(b, b.client.QueueResume(b.ctx, "default", nil))
	require.Equal(b, running, <-began)
	b.pause("default")
	require.NoError(b, b.client.Stop(b.ctx))
	b.note("after its time", b.row(running))
	b.told(running, river.EventKindJobInterrupted, river.EventKindJobInterrupted)
}

func compare(t *testing.T, stock, ours *bench) {
	for _, b := range []*bench{stock, ours} {
		for _, wrong := range b.wrong {
			t.Errorf("%s: %s", b.name, wrong)
		}
	}
	require.NotEmpty(t, stock.seen)
	require.Equal(t, stock.seen, ours.seen, "stock, and through our driver")
	t.Log("\n" + strings.Join(stock.seen, ""))
}

// seedScheduled leaves a job that is due, for the leader's first look.
func seedScheduled(b *bench) {
	client, err := river.NewClient(riverpgxv5.New(b.pool), &river.Config{})
	require.NoError(b, err)
	_, err = client.Insert(b.ctx, act{Do: "due"}, &river.InsertOpts{Queue: b.queue, ScheduledAt: time.Now().Add(never)})
	require.NoError(b, err)
	b.exec(`UPDATE river_job SET scheduled_at = now() WHERE state = 'scheduled'`)
}

var errNoInvoice = errors.New("no such invoice")

// failUntil fails each attempt before the nth.
func failUntil(n int) handler {
	return func(_ context.Context, job *river.Job[act]) error {
		if job.Attempt < n {
			return fmt.Errorf("attempt %d: %w", job.Attempt, errNoInvoice)
		}
		return nil
	}
}

// serverUsage waits until the test lets it go, or it is cancelled.
func serverUsage(began chan<- int64, free <-chan struct{}) handler {
	return func(ctx context.Context, job *river.Job[act]) error {
		began <- job.ID
		select {
		case <-free:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var behaviours = map[string]func(*bench){
	"insert": func(b *bench) {
		id := b.insert("", &river.InsertOpts{Priority: 3, Tags: []string{"billing", "europe"}, MaxAttempts: 7, Metadata: []byte(`{"theirs": 1}`)})
		b.until(id, rivertype.JobStateCompleted)
		b.told(id, river.EventKindJobCompleted)
		job, err := b.client.JobGet(b.ctx, id)
		require.NoError(b, err)
		b.note(string(job.EncodedArgs), job.Kind, job.Queue, len(job.AttemptedBy))
	},
	"insert many": func(b *bench) {
		many := []river.InsertManyParams{{Args: act{N: 1}, InsertOpts: &river.InsertOpts{Queue: b.queue}}, {Args: act{N: 2}, InsertOpts: &river.InsertOpts{Queue: b.queue}}}
		results, err := b.client.InsertMany(b.ctx, many)
		require.NoError(b, err)
		n, err := b.client.InsertManyFast(b.ctx, many)
		require.NoError(b, err)
		b.note(len(results), n)
		b.wait("four jobs done", func() bool {
			list, err := b.client.JobList(b.ctx, river.NewJobListParams().Queues(b.queue).States(rivertype.JobStateCompleted))
			return err == nil && len(list.Jobs) == 4
		})
	},
	"insert in a transaction": func(b *bench) {
		var ids []int64
		for _, end := range []error{errNoInvoice, nil} {
			err := b.inTx(func(tx pgx.Tx) error {
				result, err := b.client.InsertTx(b.ctx, tx, act{}, &river.InsertOpts{Queue: b.queue})
				require.NoError(b, err)
				_, err = b.client.InsertManyTx(b.ctx, tx, []river.InsertManyParams{{Args: act{N: 7}, InsertOpts: &river.InsertOpts{Queue: b.queue}}})
				require.NoError(b, err)
				ids = append(ids, result.Job.ID)
				return end
			})
			require.ErrorIs(b, err, end)
		}
		b.until(ids[1], rivertype.JobStateCompleted)
		b.note(b.row(ids[0]))
	},
	"unique by args": func(b *bench) {
		again := func(n int) {
			result, err := b.client.Insert(b.ctx, act{N: n}, &river.InsertOpts{Queue: b.queue, UniqueOpts: river.UniqueOpts{ByArgs: true, ByQueue: true}})
			require.NoError(b, err)
			b.note("skipped", result.UniqueSkippedAsDuplicate, result.Job.State)
			b.wait("done", func() bool { return strings.HasPrefix(b.row(result.Job.ID), "completed") })
		}
		again(1)
		again(1) // though it is completed
		again(2)
	},
	"unique by state and period": func(b *bench) {
		active := []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateScheduled}
		opts := &river.InsertOpts{Queue: b.queue, UniqueOpts: river.UniqueOpts{ByPeriod: 1000 * time.Hour, ByState: active, ByQueue: true}}
		began, free := make(chan int64, 8), make(chan struct{})
		b.on("hold", serverUsage(began, free))
		insert := func() int64 {
			result, err := b.client.Insert(b.ctx, act{Do: "hold"}, opts)
			require.NoError(b, err)
			b.note("skipped", result.UniqueSkippedAsDuplicate)
			return result.Job.ID
		}
		first := insert()
		<-began
		insert() // while it runs
		close(free)
		b.until(first, rivertype.JobStateCompleted)
		b.until(insert(), rivertype.JobStateCompleted)
	},
	"retry": func(b *bench) {
		b.on("fail", failUntil(3))
		id := b.insert("fail", nil)
		b.until(id, rivertype.JobStateCompleted)
		b.told(id, river.EventKindJobFailed, river.EventKindJobFailed, river.EventKindJobCompleted)
	},
	"retryable": func(b *bench) {
		b.on("fail for long", failUntil(2))
		id := b.insert("fail for long", nil)
		b.until(id, rivertype.JobStateRetryable)
		b.told(id, river.EventKindJobFailed)
		_, err := b.client.JobRetry(b.ctx, id)
		require.NoError(b, err)
		b.until(id, rivertype.JobStateCompleted)
	},
	"discard": func(b *bench) {
		b.on("fail", failUntil(99))
		id := b.insert("fail", &river.InsertOpts{MaxAttempts: 2})
		b.until(id, rivertype.JobStateDiscarded)
		b.told(id, river.EventKindJobFailed, river.EventKindJobFailed)
	},
	"panic": func(b *bench) {
		b.on("panic", func(context.Context, *river.Job[act]) error { panic("index out of range") })
		id := b.insert("panic", &river.InsertOpts{MaxAttempts: 1})
		b.until(id, rivertype.JobStateDiscarded)
	},
	"timeout": func(b *bench) {
		b.on("time out", func(ctx context.Context, _ *river.Job[act]) error { <-ctx.Done(); return ctx.Err() })
		id := b.insert("time out", &river.InsertOpts{MaxAttempts: 1})
		b.until(id, rivertype.JobStateDiscarded)
	},
	"snooze": func(b *bench) {
		var times int
		b.on("snooze", func(context.Context, *river.Job[act]) error {
			if times++; times < 3 {
				return river.JobSnooze(time.Millisecond)
			}
			return nil
		})
		id := b.insert("snooze", &river.InsertOpts{MaxAttempts: 1})
		b.until(id, rivertype.JobStateCompleted)
		b.told(id, river.EventKindJobSnoozed, river.EventKindJobSnoozed, river.EventKindJobCompleted)
		b.on("snooze for long", func(context.Context, *river.Job[act]) error { return river.JobSnooze(never) })
		id = b.insert("snooze for long", nil)
		b.until(id, rivertype.JobStateScheduled)
		b.told(id, river.EventKindJobSnoozed)
	},
	"cancel oneself": func(b *bench) {
		b.on("cancel", func(context.Context, *river.Job[act]) error { return river.JobCancel(errNoInvoice) })
		id := b.insert("cancel", nil)
		b.until(id, rivertype.JobStateCancelled)
		b.told(id, river.EventKindJobCancelled)
	},
	"cancel what waits": func(b *bench) {
		for _, opts := range []*river.InsertOpts{{Queue: "nobodys"}, {ScheduledAt: time.Now().Add(never)}} {
			id := b.insert("", opts)
			job, err := b.client.JobCancel(b.ctx, id)
			require.NoError(b, err)
			b.note(job.State)
			b.until(id, rivertype.JobStateCancelled)
		}
	},
	"cancel what runs": func(b *bench) {
		began := make(chan int64, 8)
		b.on("hold", serverUsage(began, nil))
		id := b.insert("hold", nil)
		<-began
		job, err := b.client.JobCancel(b.ctx, id)
		require.NoError(b, err)
		b.note(job.State)
		b.until(id, rivertype.JobStateCancelled)
		b.told(id, river.EventKindJobCancelled)
	},
	"cancel what fails meanwhile": func(b *bench) { // the row was marked, the handler does not know
		began, free := make(chan int64, 8), make(chan struct{})
		b.on("fail", func(context.Context, *river.Job[act]) error { began <- 0; <-free; return errNoInvoice })
		id := b.insert("fail", nil)
		<-began
		b.exec(`UPDATE river_job SET metadata = metadata || '{"cancel_attempted_at": "2026-01-02T03:04:05Z"}' WHERE id = $1`, id)
		close(free)
		b.until(id, rivertype.JobStateCancelled)
		b.told(id, river.EventKindJobCancelled)
	},
	"cancel in a transaction": func(b *bench) {
		id := b.insert("", &river.InsertOpts{Queue: "nobodys"})
		for _, end := range []error{errNoInvoice, nil} {
			err := b.inTx(func(tx pgx.Tx) error {
				_, err := b.client.JobCancelTx(b.ctx, tx, id)
				require.NoError(b, err)
				return end
			})
			require.ErrorIs(b, err, end)
			b.note(b.row(id))
		}
	},
	"retry by hand": func(b *bench) {
		b.on("fail", failUntil(2))
		id := b.insert("fail", &river.InsertOpts{MaxAttempts: 1})
		b.until(id, rivertype.JobStateDiscarded)
		_, err := b.client.JobRetry(b.ctx, id)
		require.NoError(b, err)
		b.until(id, rivertype.JobStateCompleted)
		require.NoError(b, b.inTx(func(tx pgx.Tx) error { _, err := b.client.JobRetryTx(b.ctx, tx, id); return err }))
		b.wait("done again", func() bool { return strings.HasPrefix(b.row(id), "completed attempt 3") })
		b.note(b.row(id))
	},
	"delete": func(b *bench) {
		began, free := make(chan int64, 8), make(chan struct{})
		b.on("hold", serverUsage(began, free))
		id := b.insert("hold", nil)
		<-began
		_, err := b.client.JobDelete(b.ctx, id)
		b.note(err)
		close(free)
		b.until(id, rivertype.JobStateCompleted)
		_, err = b.client.JobDelete(b.ctx, id)
		b.note(err, b.row(id))
		_, err = b.client.JobDelete(b.ctx, id)
		b.note(err)
		b.insert("", &river.InsertOpts{ScheduledAt: time.Now().Add(never)})
		many, err := b.client.JobDeleteMany(b.ctx, river.NewJobDeleteManyParams().Queues(b.queue))
		require.NoError(b, err)
		b.note(len(many.Jobs))
	},
	"delete what runs": func(b *bench) { // behind River's back; its end finds nothing and goes on
		began, free := make(chan int64, 8), make(chan struct{})
		b.on("hold", serverUsage(began, free))
		id := b.insert("hold", nil)
		<-began
		b.exec(fmt.Sprintf(`SET LOCAL session_replication_role = replica; DELETE FROM river_job WHERE id = %d`, id)) // a trigger refuses that
		close(free)
		b.until(b.insert("", nil), rivertype.JobStateCompleted)
		b.note(b.row(id))
	},
	"pause": func(b *bench) {
		require.NoError(b, b.client.QueuePause(b.ctx, b.queue, nil))
		b.paused(b.queue, river.EventKindQueuePaused)
		id := b.insert("", nil)
		queue, err := b.client.QueueGet(b.ctx, b.queue)
		require.NoError(b, err)
		b.note(queue.PausedAt != nil, b.row(id))
		require.NoError(b, b.client.QueueResume(b.ctx, b.queue, nil))
		b.until(id, rivertype.JobStateCompleted)
		b.paused(b.queue, river.EventKindQueueResumed)
	},
	"complete in a transaction": func(b *bench) { completeTx(b) },
	"metadata": func(b *bench) {
		b.on("set", func(ctx context.Context, job *river.Job[act]) error {
			require.NoError(b, river.MetadataSet(ctx, fmt.Sprint("attempt ", job.Attempt), map[string]any{"of": []int{1, 2}}))
			return failUntil(2)(ctx, job)
		})
		id := b.insert("set", &river.InsertOpts{Metadata: []byte(`{"mine": true}`)})
		b.until(id, rivertype.JobStateCompleted)
		_, err := b.client.JobUpdate(b.ctx, id, &river.JobUpdateParams{Output: "late"})
		require.NoError(b, err)
		b.note(b.row(id))
	},
	"output": func(b *bench) {
		b.on("put out", func(ctx context.Context, job *river.Job[act]) error {
			require.NoError(b, river.RecordOutput(ctx, map[string]int{"rows": job.Attempt}))
			return failUntil(2)(ctx, job)
		})
		id := b.insert("put out", nil)
		b.until(id, rivertype.JobStateCompleted)
		job, err := b.client.JobGet(b.ctx, id)
		require.NoError(b, err)
		b.note(string(job.Output()))
	},
	"resumable steps": func(b *bench) { resumable(b) },
	"error handler": func(b *bench) {
		b.on("handled", func(_ context.Context, job *river.Job[act]) error {
			b.note("handled", job.Args.Do, job.Attempt)
			if job.Attempt == 2 {
				return errNoInvoice // asks for it to be cancelled
			}
			return nil
		})
		b.on("fail", failUntil(9))
		id := b.insert("fail", nil)
		b.until(id, rivertype.JobStateCancelled)
		b.on("panic", func(context.Context, *river.Job[act]) error { panic("index out of range") })
		id = b.insert("panic", &river.InsertOpts{MaxAttempts: 1})
		b.until(id, rivertype.JobStateDiscarded)
	},
	"periodic": func(b *bench) {
		var id int64
		b.wait("the leader has enqueued it", func() bool {
			return b.pool.QueryRow(b.ctx, `SELECT id FROM river_job WHERE queue = $1`, b.queue).Scan(&id) == nil
		})
		b.until(id, rivertype.JobStateCompleted)
	},
	"scheduled": func(b *bench) { // see seedScheduled
		var id int64
		require.NoError(b, b.pool.QueryRow(b.ctx, `SELECT id FROM river_job WHERE queue = $1`, b.queue).Scan(&id))
		b.until(id, rivertype.JobStateCompleted)
	},
	"unknown kind": func(b *bench) {
		result, err := b.client.Insert(b.ctx, other{}, &river.InsertOpts{Queue: b.queue})
		b.note(err)
		require.Nil(b, result)
		var id int64
		require.NoError(b, b.pool.QueryRow(b.ctx, `
INSERT INTO river_job (kind, args, queue, max_attempts) VALUES ('other', '{}', $1, 3) RETURNING id`, b.queue).Scan(&id))
		b.until(b.insert("", nil), rivertype.JobStateCompleted) // behind it
		b.note(b.row(id))
	},
	"another queue": func(b *bench) {
		waits := b.insert("", &river.InsertOpts{Queue: b.queue + "_2"})
		b.until(b.insert("", nil), rivertype.JobStateCompleted)
		b.note(b.row(waits))
		require.NoError(b, b.client.Queues().Add(b.queue+"_2", river.QueueConfig{MaxWorkers: 1}))
		b.until(waits, rivertype.JobStateCompleted)
		require.NoError(b, b.client.Queues().Remove(b.ctx, b.queue+"_2"))
	},
	"order": func(b *bench) { // by priority, then time
		queue := b.queue + "_one"
		ids := map[int64]int{}
		b.onIn(queue, "", func(_ context.Context, job *river.Job[act]) error { b.note(ids[job.ID]); return nil })
		for i, priority := range []int{4, 1, 2, 1} {
			ids[b.insert("", &river.InsertOpts{Queue: queue, Priority: priority})] = i
		}
		require.NoError(b, b.client.Queues().Add(queue, river.QueueConfig{MaxWorkers: 1}))
		b.wait("all done", func() bool {
			list, err := b.client.JobList(b.ctx, river.NewJobListParams().Queues(queue).States(rivertype.JobStateCompleted))
			return err == nil && len(list.Jobs) == 4
		})
	},
}

// pause stops a queue, and waits until its producer has heard of that: no fetch is under
// way then that would take a job which a stop interrupts, once more.
func (b *bench) pause(queue string) {
	heard := func() (n int) {
		b.rig.mu.Lock()
		defer b.rig.mu.Unlock()
		for _, kind := range b.queues[queue] {
			if kind == river.EventKindQueuePaused {
				n++
			}
		}
		return n
	}
	before := heard()
	require.NoError(b, b.client.QueuePause(b.ctx, queue, nil))
	b.wait(queue+" is paused", func() bool { return heard() > before })
}

// paused waits until the producer has heard of it.
func (b *bench) paused(queue string, kind river.EventKind) {
	b.wait(queue+" "+string(kind), func() bool {
		b.rig.mu.Lock()
		defer b.rig.mu.Unlock()
		return slices.Contains(b.queues[queue], kind)
	})
}

// completeTx is River's completion inside the handler's own transaction.
func completeTx(b *bench) {
	complete := func(ctx context.Context, job *river.Job[act], commit, result error) error {
		err := b.inTx(func(tx pgx.Tx) error {
			done, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
			require.NoError(b, err)
			b.note(done.State, done.Kind, done.Args, len(done.AttemptedBy))
			return commit
		})
		require.ErrorIs(b, err, commit)
		require.NoError(b, river.RecordOutput(ctx, "after it"))
		return result
	}
	for name, ends := range map[string][2]error{
		"commit": {nil, nil}, "commit, error": {nil, errNoInvoice}, "rollback": {errNoInvoice, nil}, "rollback, error": {errNoInvoice, errNoInvoice},
	} {
		b.on(name, func(ctx context.Context, job *river.Job[act]) error { return complete(ctx, job, ends[0], ends[1]) })
	}
	for _, c := range []struct {
		name  string
		state rivertype.JobState
		event river.EventKind
	}{
		{"commit", rivertype.JobStateCompleted, river.EventKindJobCompleted},
		{"commit, error", rivertype.JobStateCompleted, river.EventKindJobCompleted},
		{"rollback", rivertype.JobStateCompleted, river.EventKindJobCompleted},
		{"rollback, error", rivertype.JobStateDiscarded, river.EventKindJobFailed},
	} {
		id := b.insert(c.name, &river.InsertOpts{MaxAttempts: 1})
		b.wait(c.name, func() bool { return strings.HasPrefix(b.row(id), string(c.state)) })
		b.told(id, c.event)
		b.note(b.row(id))
	}
}

// resumable is a job of three steps, the second with a cursor, that fails once
// in it, and once behind a step written in a transaction of its own.
func resumable(b *bench) {
	b.on("steps", func(ctx context.Context, job *river.Job[act]) error {
		river.ResumableStep(ctx, "one", nil, func(context.Context) error { b.note("one"); return nil })
		river.ResumableStepCursor(ctx, "two", nil, func(ctx context.Context, from int) error {
			b.note("two from", from)
			if job.Attempt == 1 {
				require.NoError(b, river.ResumableSetCursor(ctx, 7))
				return errNoInvoice
			}
			return nil
		})
		river.ResumableStep(ctx, "three", nil, func(ctx context.Context) error {
			b.note("three")
			return b.inTx(func(tx pgx.Tx) error {
				_, err := river.ResumableSetStepTx[*riverpgxv5.Driver](ctx, tx, job)
				return err
			})
		})
		river.ResumableStep(ctx, "four", nil, func(context.Context) error {
			b.note("four")
			return failUntil(3)(ctx, job)
		})
		return nil
	})
	id := b.insert("steps", nil)
	b.until(id, rivertype.JobStateCompleted)
}
