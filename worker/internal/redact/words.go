package redact

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Text returns an error's text without the values in what the server has said: in the
// errors that err wraps, and in said, which are the server's other errors of the attempt.
// Their words are replaced wherever they stand in the text, so that an error that was
// wrapped by its words alone (%v) is redacted too.
func Text(err error, said []*pgconn.PgError) string {
	return (*Words)(nil).With(said...).Text(err)
}

// Words are the words of a number of the server's errors, in each form in which a text may
// have them. The forms are made once. The zero value and nil have none. A Words is not changed
// after it was made, and may be used by several goroutines.
type Words struct {
	of    []*pgconn.PgError
	words []phrase // the longest first, because one may be part of another
}

// phrase is what is looked for, as it is and as it stands within quoted text, and what takes
// its place. No form is shorter than the phrase.
type phrase struct {
	length int
	pairs  []pair
}

type pair struct{ from, by string }

// With returns the words of further errors besides. Those that are known cost nothing.
func (w *Words) With(said ...*pgconn.PgError) *Words {
	var all Words
	if w != nil {
		all = *w
	}
	added := false
	for _, e := range said {
		if slices.ContainsFunc(all.of, func(known *pgconn.PgError) bool { return *known == *e }) {
			continue
		}
		if !added { // the others' lists are theirs
			all, added = Words{slices.Clone(all.of), slices.Clone(all.words)}, true
		}
		all.of, all.words = append(all.of, e), append(all.words, phrases(e)...)
	}
	if !added {
		return w
	}
	slices.SortStableFunc(all.words, longer)
	return &all
}

func longer(a, b phrase) int { return cmp.Compare(b.length, a.length) }

// Text returns an error's text without the words, and without those of the errors that it
// wraps.
func (w *Words) Text(err error) string { return w.With(Find(err)...).Clean(err.Error()) }

// Clean returns a text without the words.
func (w *Words) Clean(text string) string {
	if w == nil {
		return text
	}
	for _, p := range w.fitting(text) {
		for _, form := range p.pairs {
			if len(form.from) <= len(text) {
				text = strings.ReplaceAll(text, form.from, form.by)
			}
		}
	}
	return text
}

// fitting are the phrases that are no longer than a text. A text that grows by what takes a
// phrase's place has no longer ones in it.
func (w *Words) fitting(text string) []phrase {
	from, _ := slices.BinarySearchFunc(w.words, len(text), func(p phrase, length int) int { return cmp.Compare(length, p.length) })
	return w.words[from:]
}

// phrases are what of an error may stand in a text and is to be replaced.
func phrases(e *pgconn.PgError) (all []phrase) {
	add := func(words, by string) {
		if len(words) >= shortest {
			all = append(all, phrase{len(words), inForms(words, by)})
		}
	}
	if Repeats(e) {
		add(e.Error(), Sentence(e))
		add(e.Message, about(e))
	}
	for _, more := range []string{e.Detail, e.Hint, e.Where, e.InternalQuery} {
		add(more, "[left out]")
	}
	return all
}

// shortest is from how many bytes on words are looked for that may stand in a text by
// chance.
const shortest = 4

// inForms are words and what takes their place, in each form that differs.
func inForms(words, by string) []pair {
	pairs := []pair{{words, by}}
	for _, form := range forms {
		quoted := form(words)
		if !slices.ContainsFunc(pairs, func(p pair) bool { return p.from == quoted }) {
			pairs = append(pairs, pair{quoted, form(by)})
		}
	}
	return pairs
}

// forms are how words stand within quoted text: of JSON, of JSON within JSON, and of Go (%q).
var forms = []func(string) string{
	inJSON,
	func(s string) string { return inJSON(inJSON(s)) },
	func(s string) string { return inQuotes(json.Marshal(s)) }, // with < and > escaped
	func(s string) string { return inQuotes([]byte(strconv.Quote(s)), nil) },
	func(s string) string { return inQuotes([]byte(strconv.QuoteToASCII(s)), nil) },
}

func inJSON(s string) string {
	var to bytes.Buffer
	encoder := json.NewEncoder(&to)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(s)
	return inQuotes(bytes.TrimSpace(to.Bytes()), err)
}

// inQuotes is what stands between quotes. Encoding a string never fails.
func inQuotes(quoted []byte, _ error) string { return string(quoted[1 : len(quoted)-1]) }
