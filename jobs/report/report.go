package report

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/jackc/pgx/v5"
	"gocloud.dev/blob"

	"github.com/headgate/headgate/jobs"
)

// New returns the handler of the kind: it writes its files into bucket, which
// stays the caller's to close, after the worker has stopped. The handler is safe
// for concurrent use.
//
// On success Result.Rows is the number of data rows and Result.Output the
// file's key in the bucket. Arguments that can never work, and a query that
// tries to write, end the job for good ([jobs.Cancel]); anything else may be
// tried again. When the bucket fails while rows are still coming, the connection
// is closed rather than the rest of the rows read.
func New(bucket *blob.Bucket) jobs.TxHandler[Args] {
	return func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Args]) error {
		if err := job.Args.Check(); err != nil {
			return jobs.Cancel(fmt.Errorf("report: %w", err))
		}
		if job.Tenant.Slug == "" {
			return jobs.Cancel(errors.New("report: the job names no tenant: enqueue it for one"))
		}
		key := path.Join(job.Tenant.Slug, job.Args.Name+"-"+job.UID+".csv")
		rows, err := export(ctx, tx, job.Args, bucket, key)
		if err != nil {
			return err
		}
		job.Result.Rows, job.Result.Output = rows, key
		return nil
	}
}

// export writes the rows of a query to key. It runs under a savepoint that may
// only read, because whether the transaction round it may write is up to the
// worker. Released, and not rolled back: what the query did to the session must
// stay to be seen by the worker's own checks.
func export(ctx context.Context, tx pgx.Tx, args Args, bucket *blob.Bucket, key string) (int64, error) {
	readOnly, err := tx.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("report: opening a savepoint: %w", err)
	}
	if _, err := readOnly.Exec(ctx, "SET TRANSACTION READ ONLY"); err != nil {
		return 0, fmt.Errorf("report: making it read only: %w", err)
	}
	query, err := prepare(ctx, readOnly.Conn().PgConn(), args)
	if err != nil {
		return 0, err
	}
	rows, err := write(ctx, bucket, key, query.stream)
	if err != nil {
		return 0, err
	}
	if err := readOnly.Commit(ctx); err != nil {
		return 0, fmt.Errorf("report: releasing the savepoint: %w", err)
	}
	return rows, nil
}
