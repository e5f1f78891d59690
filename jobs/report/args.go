package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
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

// check refuses arguments that no attempt can serve.
func (a Args) check() error {
	switch {
	case strings.TrimSpace(a.Query) == "":
		return errors.New("report: the query is empty: write one SELECT")
	case len(a.Query) > MaxQueryBytes:
		return fmt.Errorf("report: the query is %d bytes long, at most %d are allowed: put it into a view and select from that", len(a.Query), MaxQueryBytes)
	case !namePattern.MatchString(a.Name):
		return fmt.Errorf("report: the name %.80q is not usable: write 1 to 64 of a-z, 0-9 and -, not beginning with -", a.Name)
	}
	return nil
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
	if err := decoder.Decode(&values); err != nil {
		return fmt.Errorf("report: args: %w", err)
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
			return nil, fmt.Errorf("report: args[%d]: %w", i, err)
		}
		switch written[0] {
		case 'n':
		case '{', '[':
			return nil, fmt.Errorf("report: args[%d]: want a text, a number, true, false or null; write other things as text and cast them in the query, as in $%d::jsonb", i, i+1)
		case '"':
			text := ""
			if err := json.Unmarshal(written, &text); err != nil {
				return nil, fmt.Errorf("report: args[%d]: %w", i, err)
			}
			texts[i] = []byte(text)
		default:
			texts[i] = written
		}
	}
	return texts, nil
}
