package redact

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// long are as many errors as a connection remembers, of 8 KB each.
func long() (said []*pgconn.PgError) {
	for i := range 16 {
		said = append(said, &pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: fmt.Sprintf("invalid input syntax for type integer: %q", strings.Repeat("ada ", 2000)+fmt.Sprint(i))})
	}
	return said
}

// The forms of words are made once, and words that are longer than a text are not looked for.
func TestWhatIsKnownCostsNothing(t *testing.T) {
	t.Parallel()
	said := long()
	words := (*Words)(nil).With(said[:15]...)
	same := *said[3]
	require.Same(t, words, words.With(said[:15]...))
	require.Same(t, words, words.With(&same), "by what it says")
	more := words.With(said...)
	require.NotSame(t, words, more)
	require.Len(t, words.of, 15, "others may be using it")
	require.Len(t, more.of, 16)
	for i, e := range said {
		require.Equal(t, "x "+Sentence(e), more.Clean("x "+e.Error()), i)
	}

	require.Len(t, more.words, 32)
	require.Empty(t, more.fitting("short"))
	require.Empty(t, more.fitting(said[0].Message[1:]))
	require.Len(t, more.fitting(said[0].Message), 10, "the messages of the first ten, which are as long")
	require.Len(t, more.fitting(said[15].Error()), 32)
	require.Empty(t, (*Words)(nil).Clean(""))
}

// Words that are a part of others, of the same error or another, leave nothing of these.
func TestTheLongestWordsFirst(t *testing.T) {
	t.Parallel()
	said := []*pgconn.PgError{
		{Severity: "ERROR", Code: "P0001", Message: "of ada", Detail: "row of ada and bob", Routine: "exec_stmt_raise"},
		{Severity: "ERROR", Code: "P0001", Message: "row", Hint: "row of ada and bob and eve", Routine: "exec_stmt_raise"},
	}
	require.Equal(t, "x [left out] y [left out] z raise_exception", Text(errors.New("x row of ada and bob and eve y row of ada and bob z of ada"), said))
}

// Of a line with many short texts beside 16 long errors, and of one long text.
func BenchmarkClean(b *testing.B) {
	said := long()
	for name, text := range map[string]string{"short": "charging the card", "long": strings.Repeat("x", 4000) + said[7].Error()} {
		b.Run(name+"/anew", func(b *testing.B) {
			for b.Loop() {
				_ = Text(errors.New(text), said)
			}
		})
		words := (*Words)(nil).With(said...)
		b.Run(name+"/kept", func(b *testing.B) {
			for b.Loop() {
				_ = words.Clean(text)
			}
		})
	}
}
