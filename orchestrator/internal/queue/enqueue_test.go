package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// A tenant is found by each of its names, or in the context.
func TestEnqueueNamesTheTenant(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	acme, err := env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	for _, name := range []string{"acme", acme.ID, fmt.Sprint(acme.OrgID)} {
		result, err := env.Client.Enqueue(ctx, name, roomtest.Note{Text: "x"}, nil)
		require.NoError(t, err, name)
		job, err := env.Client.Job(ctx, result.UID)
		require.NoError(t, err)
		require.Equal(t, "acme", job.Tenant)
		require.Equal(t, "shared", job.Database)
		require.Equal(t, result.UID, job.UID)
		upper, err := env.Client.Job(ctx, strings.ToUpper(result.UID))
		require.NoError(t, err)
		require.Equal(t, job, upper)
		uid, err := uuid.Parse(result.UID)
		require.NoError(t, err)
		require.EqualValues(t, 7, uid.Version())
	}
	_, err = env.Client.Enqueue(jobs.WithTenant(ctx, "brick"), "", roomtest.Note{Text: "x"}, nil)
	require.NoError(t, err)
	_, err = env.Client.EnqueueDatabase(ctx, "shared", roomtest.Tidy{}, nil)
	require.NoError(t, err)
	require.Equal(t, 5, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// What is refused is refused with a sentence, and nothing is inserted.
func TestEnqueueRefuses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "gone", Name: "gone", Database: "shared"})
	require.NoError(t, err)
	require.NoError(t, env.Catalog.SetStatus(ctx, "gone", catalog.Suspended))

	type opts = jobs.EnqueueOpts
	big := func(n int) roomtest.Note { return roomtest.Note{Text: strings.Repeat("x", n-len(`{"text":""}`))} }
	for name, c := range map[string]struct {
		tenant, database string
		args             jobs.Args
		opts             *opts
		is               error
		says             string
	}{
		"no tenant":          {"", "", roomtest.Note{}, nil, jobs.ErrNoTenant, "no tenant given"},
		"unknown tenant":     {"nobody", "", roomtest.Note{}, nil, jobs.ErrUnknownTenant, "nobody"},
		"injection":          {"a'; drop table x--", "", roomtest.Note{}, nil, jobs.ErrUnknownTenant, "unknown tenant"},
		"suspended":          {"gone", "", roomtest.Note{}, nil, jobs.ErrTenantSuspended, `tenant "gone" is suspended`},
		"args too large":     {"acme", "", big(256<<10 + 1), nil, nil, "args are 262145 bytes of JSON: at most 262144"},
		"args not object":    {"acme", "", rawNote(`[1]`), nil, nil, "an array"},
		"args NUL":           {"acme", "", roomtest.Note{Text: "a\x00b"}, nil, nil, "U+0000"},
		"args missing":       {"acme", "", nil, nil, nil, "args are missing"},
		"args do not encode": {"acme", "", badNote{}, nil, nil, "do not encode"},
		"kind":               {"acme", "", oddKind{}, nil, nil, "kind \"a b\""},
		"run at 9999":        {"acme", "", roomtest.Note{}, &opts{RunAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, nil, "at most ten years"},
		"run at 1970":        {"acme", "", roomtest.Note{}, &opts{RunAt: time.Unix(1, 0)}, nil, "is past"},
		"run at 1970, past":  {"acme", "", roomtest.Note{}, &opts{RunAt: time.Unix(1, 0), AllowPast: true}, nil, "after 2000"},
		"priority":           {"acme", "", roomtest.Note{}, &opts{Priority: 5}, nil, `priority "5": give 1 (first) to 4`},
		"queue":              {"acme", "", roomtest.Note{}, &opts{Queue: "No Good"}, nil, `queue "No Good"`},
		"queue, dashes":      {"acme", "", roomtest.Note{}, &opts{Queue: "a--b"}, nil, `queue "a--b"`},
		"queue, end":         {"acme", "", roomtest.Note{}, &opts{Queue: "a-"}, nil, `queue "a-"`},
		"queue, long":        {"acme", "", roomtest.Note{}, &opts{Queue: strings.Repeat("a", 65)}, nil, "1 to 64"},
		"tag":                {"acme", "", roomtest.Note{}, &opts{Tags: []string{"a,b"}}, nil, `tag "a,b"`},
		"tag, short":         {"acme", "", roomtest.Note{}, &opts{Tags: []string{"ab"}}, nil, `tag "ab": a tag is 3 to 64`},
		"tag, colon":         {"acme", "", roomtest.Note{}, &opts{Tags: []string{"a:b"}}, nil, `tag "a:b"`},
		"tags":               {"acme", "", roomtest.Note{}, &opts{Tags: make([]string, 17)}, nil, "17 tags are given: give at most 16"},
		"attempts":           {"acme", "", roomtest.Note{}, &opts{MaxAttempts: -1}, nil, "give 1 to 1000"},
		"timeout":            {"acme", "", roomtest.Note{}, &opts{Timeout: time.Millisecond}, nil, "give 1s to 24h"},
		"scope, tenant":      {"acme", "", roomtest.Tidy{}, nil, nil, "works on a whole database"},
		"scope, database":    {"", "shared", roomtest.Note{}, nil, nil, "works for one tenant"},
		"unknown database":   {"", "nowhere", roomtest.Tidy{}, nil, jobs.ErrUnknownDatabase, "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if c.database != "" {
				_, err = env.Client.EnqueueDatabase(ctx, c.database, c.args, c.opts)
			} else {
				_, err = env.Client.Enqueue(ctx, c.tenant, c.args, c.opts)
			}
			require.Error(t, err)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			require.Contains(t, err.Error(), c.says)
		})
	}
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	_, err = env.Client.Enqueue(ctx, "acme", big(256<<10), nil)
	require.NoError(t, err, "the limit itself is allowed")
	_, err = env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &opts{Queue: strings.Repeat("a-", 31) + "ab", Tags: []string{"a-b", "_a_", strings.Repeat("a", 64)}})
	require.NoError(t, err, "names at the limit are River's too")
	_, err = env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: `a backslash before u0000: \u0000`}, nil)
	require.NoError(t, err, "text that only looks like an escape is allowed")
}

type rawNote string

func (rawNote) Kind() string { return "note" }

func (n rawNote) MarshalJSON() ([]byte, error) { return []byte(n), nil }

type badNote struct{}

func (badNote) Kind() string                 { return "note" }
func (badNote) MarshalJSON() ([]byte, error) { return nil, errors.New("no") }

type oddKind struct{}

func (oddKind) Kind() string { return "a b" }

// A job enqueued in a transaction exists if that commits, and not otherwise.
func TestEnqueueTx(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	undone := errors.New("undone")
	err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		_, err := env.Client.EnqueueTx(ctx, tx, "acme", roomtest.Note{Text: "never"}, nil)
		require.NoError(t, err)
		_, err = env.Client.EnqueueTx(ctx, tx, "nobody", roomtest.Note{Text: "refused"}, nil)
		require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		return undone
	})
	require.ErrorIs(t, err, undone)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))

	require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		// The tenant is as new as the job.
		_, err := env.Catalog.AddTenantTx(ctx, tx, catalog.TenantParams{Slug: "fresh", Name: "Fresh", Database: "shared"})
		require.NoError(t, err)
		_, err = env.Client.EnqueueTx(ctx, tx, "fresh", roomtest.Note{Text: "first"}, nil)
		return err
	}))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// Many jobs go in at once, in order, all or none.
func TestEnqueueMany(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	params := make([]jobs.EnqueueParams, 10_000)
	for i := range params {
		params[i] = jobs.EnqueueParams{Tenant: []string{"acme", "brick"}[i%2], Args: roomtest.Note{Text: fmt.Sprint(i)}}
	}
	params[1234] = jobs.EnqueueParams{Database: "shared", Args: roomtest.Tidy{}}
	start := time.Now()
	results, err := env.Client.EnqueueMany(ctx, params)
	require.NoError(t, err)
	t.Logf("%d jobs in %s", len(results), time.Since(start))
	require.Len(t, results, len(params))
	require.Equal(t, len(params), roomtest.Count(t, env, `SELECT count(DISTINCT metadata->>'job_uid') FROM river_job`))
	for _, i := range []int{0, 1, 9999} {
		job, err := env.Client.Job(ctx, results[i].UID)
		require.NoError(t, err)
		var note roomtest.Note
		require.NoError(t, json.Unmarshal(job.Args, &note))
		require.Equal(t, fmt.Sprint(i), note.Text)
	}

	params[7].Tenant = "nobody"
	_, err = env.Client.EnqueueMany(ctx, params)
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	params[7] = jobs.EnqueueParams{Tenant: "acme", Args: roomtest.Note{Text: "a\x00"}}
	_, err = env.Client.EnqueueMany(ctx, params)
	require.ErrorContains(t, err, "item 7: ")
	require.Equal(t, len(params), roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// Every accepted job that can run now is told of, once, however soon after
// another one: River alone keeps quiet about the second.
func TestEveryInsertWakesItsQueue(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	listener, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(ctx, `LISTEN "public.river_insert"`)
	require.NoError(t, err)

	const inserts = 50
	for range inserts {
		_, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &jobs.EnqueueOpts{Queue: "quick"})
		require.NoError(t, err)
	}
	_, err = env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &jobs.EnqueueOpts{RunAt: time.Now().Add(time.Hour)})
	require.NoError(t, err, "this one wakes nobody yet")
	_, err = env.Client.Enqueue(ctx, "acme", roomtest.Note{}, &jobs.EnqueueOpts{Queue: "last"})
	require.NoError(t, err)

	heard := 0
	for {
		n, err := listener.WaitForNotification(ctx)
		require.NoError(t, err)
		if n.Payload == `{"queue" : "last"}` {
			break
		}
		require.Equal(t, `{"queue" : "quick"}`, n.Payload)
		heard++
	}
	require.Equal(t, inserts, heard)
}

func TestJobNotFound(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	_, err := env.Client.Job(context.Background(), uuid.NewString())
	require.ErrorIs(t, err, jobs.ErrUnknownJob)
	for _, name := range []string{"77", "x", ""} {
		_, err := env.Client.Job(context.Background(), name)
		require.ErrorAs(t, err, new(*jobs.InputError), name)
	}
}

func TestJobsFilters(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for i := range 10 {
		_, err := env.Client.Enqueue(ctx, []string{"acme", "brick"}[i%2], roomtest.Note{}, nil)
		require.NoError(t, err)
	}
	list, next, err := env.Client.Jobs(ctx, jobs.JobFilter{Tenant: "brick", State: jobs.Waiting, Kind: "note", Page: jobs.Page{Limit: 3}})
	require.NoError(t, err)
	require.Len(t, list, 3)
	rest, last, err := env.Client.Jobs(ctx, jobs.JobFilter{Tenant: "brick", Page: jobs.Page{After: next}})
	require.NoError(t, err)
	require.Empty(t, last)
	require.Len(t, rest, 2)
	_, _, err = env.Client.Jobs(ctx, jobs.JobFilter{Page: jobs.Page{After: "?"}})
	require.EqualError(t, err, `listing jobs: after "?": give what next of the page before was, or leave it out to start at the beginning`)
	_, _, err = env.Client.Jobs(ctx, jobs.JobFilter{Page: jobs.Page{Limit: 1001}})
	require.EqualError(t, err, `listing jobs: limit "1001": give 1 to 1000, or 0 for 50`)
	_, _, err = env.Client.Jobs(ctx, jobs.JobFilter{Oldest: true, Page: jobs.Page{After: next}})
	require.ErrorContains(t, err, "give what next of the page before was", "it is a place in the other order")
	newest, _, err := env.Client.Jobs(ctx, jobs.JobFilter{})
	require.NoError(t, err)
	var oldest []jobs.Record
	for f := (jobs.JobFilter{Oldest: true, Page: jobs.Page{Limit: 3}}); ; {
		page, next, err := env.Client.Jobs(ctx, f)
		require.NoError(t, err)
		if oldest = append(oldest, page...); next == "" {
			break
		}
		_, _, err = env.Client.Jobs(ctx, jobs.JobFilter{Page: jobs.Page{After: next}})
		require.ErrorContains(t, err, "give what next of the page before was")
		f.After = next
	}
	slices.Reverse(oldest)
	require.Equal(t, newest, oldest)
	none, _, err := env.Client.Jobs(ctx, jobs.JobFilter{State: "running"})
	require.NoError(t, err)
	require.Empty(t, none)
}
