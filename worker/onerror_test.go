package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/worker"
)

// tracker is an error tracker of a test.
type tracker struct {
	mu   sync.Mutex
	told []failureTold
}

type failureTold struct {
	info  jobs.Info
	end   jobs.Outcome
	trace string
}

func (k *tracker) hear(ctx context.Context, job jobs.Info, end jobs.Outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = append(k.told, failureTold{job, end, telemetry.TraceParent(ctx)})
}

func (k *tracker) of(uid string) (list []failureTold) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.told {
		if f.end.JobUID == uid {
			list = append(list, f)
		}
	}
	return list
}

// OnError is told of each attempt that fails by itself, with its class, redacted text and
// stack, and of no other.
func TestOnError(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg, heard := env.Config(), &tracker{}
	cfg.OnError = heard.hear
	d := &diary{}
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			if job.Args.How == "planted" {
				_, err := tx.Exec(ctx, `SELECT $1::text::int`, jobstest.PlantedEmail)
				return fmt.Errorf("reading: %w", err)
			}
			return end(ctx, tx, job)
		})
		registerOutside(w, d)
	})
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	type want struct {
		args   jobs.Args
		states []jobs.State
		class  jobs.Class
		says   string
		uid    string
	}
	failed := []jobs.State{jobs.Failed, jobs.Failed, jobs.Discarded}
	cases := []want{
		{Ending{}, nil, "", "", ""},
		{Ending{How: "snooze once"}, nil, "", "", ""},
		{Ending{How: "error"}, failed, jobs.ClassJobError, "no such invoice", ""},
		{Ending{How: "panic"}, failed, jobs.ClassPanic, "the handler panicked: index out of range", ""},
		{Ending{How: "timeout"}, failed, jobs.ClassTimeout, "the attempt's time was up", ""},
		{Ending{How: "cancel"}, []jobs.State{jobs.Cancelled}, "", "the customer left", ""},
		{Ending{How: "planted"}, failed, jobs.ClassJobError, "invalid_text_representation", ""},
		{onlyOnce{outside{"error"}}, []jobs.State{jobs.Cancelled}, jobs.ClassUnsafe, "half of it is done", ""},
	}
	for i, c := range cases {
		var opts *jobs.EnqueueOpts
		if ending, ok := c.args.(Ending); ok {
			opts = ending.opts()
		}
		job, err := env.Client.Enqueue(telemetry.WithTraceParent(t.Context(), traceparent), "acme", c.args, opts)
		require.NoError(t, err)
		cases[i].uid = job.UID
	}
	for _, c := range cases {
		env.Wait(c.uid)
	}
	require.NoError(t, w.Stop(t.Context())) // it waits for the calls
	for _, c := range cases {
		got := heard.of(c.uid)
		states := map[jobs.State]int{}
		for _, f := range got {
			states[f.end.State]++
			require.Equal(t, c.class, f.end.Class, "%+v", c.args)
			require.Contains(t, f.end.Message, c.says)
			require.NotContains(t, f.end.Message, jobstest.PlantedEmail)
			require.Equal(t, c.class == jobs.ClassPanic, f.end.Trace != "")
			require.Equal(t, "acme", f.info.Tenant.Slug)
			require.Equal(t, f.end.Attempt, f.info.Attempt)
			require.Equal(t, traceparent, f.trace)
		}
		wanted := map[jobs.State]int{}
		for _, state := range c.states {
			wanted[state]++
		}
		require.Equal(t, wanted, states, "%+v: %+v", c.args, got)
	}
}

// A job that somebody cancels while it runs is no failure.
func TestOnErrorIsNotToldOfRequests(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg, heard, begun := env.Config(), &tracker{}, make(chan struct{})
	cfg.OnError = heard.hear
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[Ending]) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	job, err := env.Client.Enqueue(t.Context(), "acme", Ending{}, nil)
	require.NoError(t, err)
	<-begun
	_, err = env.Client.Cancel(t.Context(), job.UID, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelled, env.Wait(job.UID).State)
	require.NoError(t, w.Stop(t.Context()))
	require.Empty(t, heard.of(job.UID))
}

// An OnError that hangs or panics harms no job. What it is not told of is counted, and Stop
// does not wait for it for ever.
func TestAnOnErrorThatHangsHarmsNobody(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	logs := &logged{}
	cfg.Logger = lockedLogger(logs)
	release := make(chan struct{})
	cfg.OnErrorTimeout = 50 * time.Millisecond
	var panicked sync.Once
	cfg.OnError = func(context.Context, jobs.Info, jobs.Outcome) {
		panicked.Do(func() { panic("no network") })
		<-release // whatever its context says
	}
	w := env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
	many := make([]jobs.EnqueueParams, 150)
	for i := range many {
		many[i] = jobs.EnqueueParams{Tenant: "acme", Args: Ending{How: "cancel"}}
	}
	accepted, err := env.Client.EnqueueMany(t.Context(), many)
	require.NoError(t, err)
	for _, job := range accepted {
		require.Equal(t, jobs.Cancelled, env.Wait(job.UID).State)
	}
	require.Equal(t, jobs.Succeeded, env.Run("acme", Ending{}).State)
	require.NoError(t, w.Stop(t.Context()))
	close(release)
	text := logs.String()
	require.Contains(t, text, "OnError panicked; the job is not touched by it")
	require.Contains(t, text, "OnError does not return; the worker stops without it")
	leftOut := 0.0
	for line := range bytes.Lines([]byte(text)) {
		var l map[string]any
		require.NoError(t, json.Unmarshal(line, &l))
		if n, ok := l["left_out"].(float64); ok && l["msg"] == "OnError was not told of failures, because it is slower than they come" {
			leftOut += n
		}
	}
	require.Equal(t, 150-100-4-1, int(leftOut))
}
