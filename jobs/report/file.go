package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/headgate/headgate/jobs"
)

// OpenFolder opens a folder of this machine as a bucket. The folder is made if
// it is missing, readable by the owner and the group (0750). Files are written
// beside their final place and renamed, so that dir may be a mount of its own.
// No attribute files are written. The caller closes the bucket.
func OpenFolder(dir string) (*blob.Bucket, error) {
	if dir == "" {
		return nil, jobs.AsInputError("folder", errors.New("report: no folder given"))
	}
	bucket, err := fileblob.OpenBucket(dir, &fileblob.Options{
		CreateDir:   true,
		DirFileMode: 0o750,
		NoTempDir:   true,
		Metadata:    fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("report: opening the folder %s: %w", dir, err)
	}
	return bucket, nil
}

// write makes the object key of what fill writes. The object appears whole or
// not at all: that a write whose context ends before Close leaves nothing is
// gocloud's contract for every bucket; a folder's does it by a temporary file
// that Close renames. What the bucket refuses is a *[jobs.OutputError].
func write(ctx context.Context, bucket *blob.Bucket, key string, fill func(context.Context, io.Writer) (int64, error)) (int64, error) {
	var local *os.File // set when the bucket is a folder
	writing, abandon := context.WithCancel(ctx)
	defer abandon()
	object, err := bucket.NewWriter(writing, key, &blob.WriterOptions{
		ContentType: "text/csv; charset=utf-8; header=present",
		BeforeWrite: func(as func(any) bool) error { as(&local); return nil },
	})
	if err != nil {
		return 0, &jobs.OutputError{Err: fmt.Errorf("report: creating %s: %w", key, err)}
	}
	rows, err := fill(ctx, object)
	if err == nil && local != nil {
		if err = local.Sync(); err != nil { // the outcome will be on disk, so must the file be
			err = &jobs.OutputError{Err: fmt.Errorf("report: storing %s: %w", key, err)}
		}
	}
	if err != nil {
		abandon()
	}
	if closeErr := object.Close(); err == nil && closeErr != nil {
		err = &jobs.OutputError{Err: fmt.Errorf("report: finishing %s: %w", key, closeErr)}
	}
	return rows, err
}
