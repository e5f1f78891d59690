package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/internal/sqltext"
)

// MaxQueryBytes is the longest query that a report takes.
const MaxQueryBytes = 64 << 10

// Args ask for one report.
type Args struct {
	// Query is one SQL statement that returns rows and changes nothing. Its
	// parameters are written $1, $2 and so on.
	Query string `json:"query"`

	// Args are the values of the parameters, in their order.
	Args Scalars `json:"args,omitempty"`

	// Name is what the file's name begins with: 1 to 64 of a-z, 0-9 and -, the
	// first of them not -.
	Name string `json:"name"`
}

// Kind returns "headgate.report".
func (Args) Kind() string { return "headgate.report" }

// KindOpts gives a report 15 minutes an attempt, and five attempts: what fails
// five times is a wrong query more often than a bad moment.
func (Args) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Timeout: 15 * time.Minute, MaxAttempts: 5}
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// Check says which field no attempt could work with. It needs no database, so it does
// not know whether the query is right.
func (a Args) Check() error {
	switch {
	case strings.TrimSpace(a.Query) == "":
		return jobs.AsInputError("query", errors.New("query is empty: write one SELECT"))
	case len(a.Query) > MaxQueryBytes:
		return jobs.AsInputError("query", fmt.Errorf("query is %d bytes long, at most %d are allowed: put it into a view and select from that", len(a.Query), MaxQueryBytes))
	case !namePattern.MatchString(a.Name):
		return jobs.AsInputError("name", fmt.Errorf("name %.80q: write 1 to 64 of a-z, 0-9 and -, not beginning with -", a.Name))
	}
	if begins := notRows(a.Query); begins != "" {
		return jobs.AsInputError("query", fmt.Errorf("query begins with %s: a report is one SELECT (or WITH, VALUES, TABLE), which changes nothing", begins))
	}
	texts, err := a.Args.texts()
	if err != nil {
		return err
	}
	for i := range texts {
		if !strings.Contains(a.Query, fmt.Sprintf("$%d", i+1)) {
			return jobs.AsInputError("args", fmt.Errorf("args[%d]: the query has no $%d: use the value, or remove it", i, i+1))
		}
	}
	return nil
}

// notRows returns the first word of a text that cannot be a query, "" if it may be one.
func notRows(query string) string {
	words := sqltext.Scanner{Rest: query}
	switch word := words.Word(); {
	case word == "select", word == "with", word == "values", word == "table":
		return ""
	case word != "":
		return fmt.Sprintf("%.60s", strings.ToUpper(word))
	case words.At == "":
		return "no command"
	}
	return fmt.Sprintf("%.1q", words.At)
}

// Scalars are JSON scalars: texts, numbers, true, false, null. Read from JSON,
// a number keeps all its digits.
type Scalars []any

// UnmarshalJSON reads a JSON array of scalars. Another array or an object in it
// is an error.
func (s *Scalars) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	values := []any(nil)
	if decoder.Decode(&values) != nil {
		return jobs.AsInputError("args", errors.New("args: want a list of values, one for each parameter"))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return jobs.AsInputError("args", errors.New("report: args: there is more behind the list"))
	}
	if _, err := Scalars(values).texts(); err != nil {
		return err
	}
	*s = values
	return nil
}

// texts returns the values in the text form of Postgres's protocol, nil for
// null.
func (s Scalars) texts() ([][]byte, error) {
	texts := make([][]byte, len(s))
	for i, value := range s {
		written, err := json.Marshal(value)
		if err != nil {
			return nil, jobs.AsInputError("args", fmt.Errorf("args[%d]: %w", i, err))
		}
		switch written[0] {
		case 'n':
		case '{', '[':
			return nil, jobs.AsInputError("args", fmt.Errorf("args[%d]: want a text, a number, true, false or null; write other things as text and cast them in the query, as in $%d::jsonb", i, i+1))
		case '"':
			text := ""
			if err := json.Unmarshal(written, &text); err != nil {
				return nil, jobs.AsInputError("args", fmt.Errorf("args[%d]: %w", i, err))
			}
			texts[i] = []byte(text)
		default:
			texts[i] = written
		}
	}
	return texts, nil
}
