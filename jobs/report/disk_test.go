package report_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
)

var errDiskFull = errors.New("no space left on device")

// fullDisk is a bucket that takes a megabyte of an object and no more.
type fullDisk struct{ driver.Bucket }

func (fullDisk) NewTypedWriter(context.Context, string, string, *driver.WriterOptions) (driver.Writer, error) {
	left := 1 << 20
	return (*fullWriter)(&left), nil
}
func (fullDisk) ErrorCode(error) gcerrors.ErrorCode { return gcerrors.ResourceExhausted }
func (fullDisk) ErrorAs(error, any) bool            { return false }
func (fullDisk) Close() error                       { return nil }

// fullWriter counts the bytes that it still takes.
type fullWriter int

func (w *fullWriter) Write(p []byte) (int, error) {
	if *w -= fullWriter(len(p)); *w < 0 {
		return 0, errDiskFull
	}
	return len(p), nil
}
func (w *fullWriter) Close() error { return nil }

// TestFullDiskEndsTheQuery: the query would go on for hours.
func TestFullDiskEndsTheQuery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bucket = blob.NewBucket(fullDisk{})
	result, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: endless})
	require.ErrorContains(t, err, "report: writing the file:")
	require.ErrorContains(t, err, "no space left on device")
	require.ErrorAs(t, err, new(*jobs.OutputError), "it is not the tenant's server that is full")
	require.Zero(t, result)
}

func TestClosedBucket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.bucket.Close())
	_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: "SELECT 1"})
	require.ErrorContains(t, err, "report: creating acme/orders-")
}
