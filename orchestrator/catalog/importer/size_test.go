package importer_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// A field has at most 64 KiB and a row 256 KiB, whatever the input is; the refusal names the
// row, the column and the length.
func TestHugeTextsAreRefused(t *testing.T) {
	t.Parallel()
	conn := source(t)
	read := map[string]func(name, zone int) error{
		"csv": func(name, zone int) error {
			_, err := importer.ReadCSV(strings.NewReader(fmt.Sprintf("slug,name,timezone\naa,b,c\nbb,%s,%s\n", strings.Repeat("x", name), strings.Repeat("y", zone))), importer.ReadOptions{})
			return err
		},
		"jsonl": func(name, zone int) error {
			_, err := importer.ReadJSONLines(strings.NewReader(fmt.Sprintf(`{"slug": "aa"}`+"\n"+`{"slug": "bb", "name": "%s", "timezone": "%s"}`, strings.Repeat("x", name), strings.Repeat("y", zone))), importer.ReadOptions{})
			return err
		},
		"query": func(name, zone int) error {
			_, err := importer.ReadQuery(t.Context(), conn, fmt.Sprintf(`SELECT 'aa' AS slug, 'b' AS name, 'c' AS timezone UNION ALL SELECT 'bb', repeat('x', %d), repeat('y', %d)`, name, zone), importer.QueryOptions{})
			return err
		},
	}
	for input, read := range read {
		require.NoError(t, read(65536, 200), input)
		line := map[string]string{"csv": "line 3", "jsonl": "line 2", "query": "line 2"}[input]
		err := read(65537, 0)
		require.ErrorContains(t, err, line+`: column "name" has 65537 bytes, and a field may have 65536 (nothing was written)`, input)
		err = read(10, 100_000)
		require.ErrorContains(t, err, line+`: column "timezone" has 100000 bytes`, input)
	}
	err := read["query"](10, 20_000_000)
	require.ErrorContains(t, err, `line 2: the row has 200`)
	require.ErrorContains(t, err, `20000000 of them in column "timezone": a row may have 262144, and a field 65536 (nothing was written)`)
	err = read["csv"](10, 100<<20)
	require.ErrorContains(t, err, "line 3: input: the row has more than 262144 bytes, which is the most: look for a quote that does not end (nothing was written)")
}

// endless is an input of many bytes that nobody holds.
type endless struct{ head, of string }

func (e *endless) Read(p []byte) (int, error) {
	if e.head != "" {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	for i := range p {
		p[i] = e.of[i%len(e.of)]
	}
	return len(p), nil
}

// What a refused input takes of memory is bounded by a row, not by the input. Without the bounds
// of a row the first of these took 256 MiB and more.
func TestAHugeRowTakesLittleMemory(t *testing.T) {
	allocated := func(read func(io.Reader, importer.ReadOptions) (*importer.Table, error), in io.Reader) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := read(in, importer.ReadOptions{})
		require.Error(t, err)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	require.Less(t, allocated(importer.ReadCSV, &endless{"slug,name\naa,\"", "x"}), uint64(16<<20))
	require.Less(t, allocated(importer.ReadJSONLines, &endless{`{"slug":"aa","name":"`, "x"}), uint64(16<<20))
}
