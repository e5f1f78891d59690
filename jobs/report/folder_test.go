package report_test

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/report"
)

// setupFolder is setup with a folder for a bucket.
func setupFolder(t *testing.T) (*bundle, string) {
	t.Helper()
	b, dir := setup(t), filepath.Join(t.TempDir(), "reports")
	bucket, err := report.OpenFolder(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = bucket.Close() })
	b.bucket = bucket
	return b, dir
}

// files lists the files under dir, by their path in it.
func files(t *testing.T, dir string) []string {
	t.Helper()
	found := []string(nil)
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func TestFolder(t *testing.T) {
	t.Parallel()
	b, dir := setupFolder(t)
	_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: "SELECT 1 AS a"})
	require.NoError(t, err)
	require.Equal(t, []string{key}, files(t, dir), "no attribute files")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o750), info.Mode().Perm())

	_, err = report.OpenFolder("")
	require.ErrorContains(t, err, "no folder given")
	_, err = report.OpenFolder(filepath.Join(dir, key))
	require.ErrorContains(t, err, "opening the folder")
}

func TestFailureLeavesNoFile(t *testing.T) {
	t.Parallel()
	b, dir := setupFolder(t)
	_, err := b.run(t.Context(), t, report.Args{
		Name:  "orders",
		Query: "SELECT repeat('x', 1000), 1 / (n - 20000) FROM generate_series(1, 30000) AS n",
	})
	require.ErrorContains(t, err, "division by zero")
	require.Empty(t, files(t, dir))
}

// TestFailureKeepsTheEarlierFile: a second attempt that fails does not harm what
// the first one wrote.
func TestFailureKeepsTheEarlierFile(t *testing.T) {
	t.Parallel()
	b, dir := setupFolder(t)
	args := report.Args{Name: "orders", Query: "SELECT 1 AS a"}
	_, err := b.run(t.Context(), t, args)
	require.NoError(t, err)
	args.Query = "SELECT 1 / 0 AS a"
	_, err = b.run(t.Context(), t, args)
	require.Error(t, err)
	require.Equal(t, []string{key}, files(t, dir))
	require.Equal(t, "a\n1\n", b.read(t, key))
}

// endless is a query that streams rows for hours.
const endless = "SELECT repeat('x', 1000), generate_series(1, 1000000000)"

// TestCancelMidwayLeavesNoFile cancels a report that has already written a part
// of its file, which is seen under its temporary name only.
func TestCancelMidwayLeavesNoFile(t *testing.T) {
	t.Parallel()
	b, dir := setupFolder(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.run(ctx, t, report.Args{Name: "orders", Query: endless})
		ended <- err
	}()
	require.Eventually(t, func() bool {
		found := files(t, dir)
		if len(found) == 0 {
			return false
		}
		info, err := os.Stat(filepath.Join(dir, found[0]))
		return err == nil && info.Size() > 1<<20 && filepath.Ext(found[0]) == ".tmp"
	}, 30*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, files(t, dir))
}

// TestMillionRowsInFlatMemory exports 1,000,000 rows and asserts that the heap
// in use never grew by 32 MB.
func TestMillionRowsInFlatMemory(t *testing.T) {
	b, dir := setupFolder(t)
	watch := watchHeap()
	began := time.Now()
	result, err := b.run(t.Context(), t, report.Args{
		Name: "orders",
		Query: `SELECT n, 'customer ' || n AS customer, md5(n::text) AS hash, n * 1.25 AS price,
			timestamptz '2026-01-01 UTC' + n * interval '1 minute' AS at, NULL AS nothing
			FROM generate_series(1, 1000000) AS n`,
	})
	took, grown := time.Since(began), watch()
	require.NoError(t, err)
	require.EqualValues(t, 1_000_000, result.Rows)

	path := filepath.Join(dir, key)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, 1_000_001, countLines(t, path))
	require.Less(t, grown, int64(32<<20), "heap grown in bytes")
	t.Logf("1,000,000 rows: %s, %.1f MB, heap grown by %.1f MB at most", took.Round(time.Millisecond), float64(info.Size())/1e6, float64(grown)/1e6)
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	lines := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines++
	}
	return lines
}

// watchHeap samples the heap in use until the returned function is called,
// which tells by how much it grew at most.
func watchHeap() func() int64 {
	heap := func() int64 {
		stats := runtime.MemStats{}
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapInuse)
	}
	runtime.GC()
	base, peak, stop, done := heap(), atomic.Int64{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			peak.Store(max(peak.Load(), heap()-base))
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return peak.Load()
	}
}
