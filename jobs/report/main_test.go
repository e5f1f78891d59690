package report_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/report"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// bundle is a connection to a database of the test's own, and a bucket.
type bundle struct {
	conn   *pgx.Conn
	bucket *blob.Bucket
}

func setup(t *testing.T) *bundle {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, jobstest.ServerURL(t, jobstest.EmptyDatabase(t)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() })
	return &bundle{conn: conn, bucket: bucket}
}

// run does a report as a worker would: in one transaction.
func (b *bundle) run(ctx context.Context, t *testing.T, args report.Args) (jobs.Result, error) {
	t.Helper()
	tx, err := b.conn.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	job := newJob(args)
	if err := report.New(b.bucket)(ctx, tx, job); err != nil {
		return *job.Result, err
	}
	return *job.Result, tx.Commit(ctx)
}

func newJob(args report.Args) *jobs.Job[report.Args] {
	return &jobs.Job[report.Args]{
		Args: args,
		Info: jobs.Info{
			UID:    "0199c0de-0000-7000-8000-000000000001",
			Kind:   args.Kind(),
			Tenant: jobs.Tenant{Slug: "acme"},
			Result: &jobs.Result{},
		},
	}
}

func (b *bundle) read(t *testing.T, key string) string {
	t.Helper()
	text, err := b.bucket.ReadAll(context.Background(), key)
	require.NoError(t, err)
	return string(text)
}

// keys lists all that is in the bucket.
func (b *bundle) keys(t *testing.T) []string {
	t.Helper()
	keys := []string(nil)
	for objects := b.bucket.List(nil); ; {
		object, err := objects.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return keys
		}
		require.NoError(t, err)
		keys = append(keys, object.Key)
	}
}
