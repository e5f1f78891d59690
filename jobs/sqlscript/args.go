package sqlscript

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs"
)

// Limits of a job.
const (
	MaxStatements = 100      // in one job
	MaxSQLBytes   = 64 << 10 // in one statement
	MaxParams     = 1_000    // of one statement
)

// Args ask for SQL to be run: either Statements, or SQL with Params, which is
// short for a list of one.
type Args struct {
	// Statements are run in their order.
	Statements []Statement `json:"statements,omitempty"`

	// SQL and Params are one statement.
	SQL    string  `json:"sql,omitempty"`
	Params []Param `json:"params,omitempty"`
}

// Statement is one SQL command and the values of its parameters.
type Statement struct {
	// SQL is one command. Its parameters are written $1, $2 and so on.
	SQL string `json:"sql"`

	// Params are the values, in their order, one for each parameter.
	Params []Param `json:"params,omitempty"`
}

// Kind returns "headgate.sql".
func (Args) Kind() string { return "headgate.sql" }

// KindOpts gives a script five attempts: what fails five times is wrong SQL more
// often than a bad moment.
func (Args) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 5} }

// Check says, in one sentence with the numbers of the statement and the
// parameter, what no attempt could run. It needs no database, so it does not know
// whether the SQL is right. Whoever enqueues a script or gives it to a schedule is
// told so at once ([jobs.WithCheck]).
func (a Args) Check() error {
	_, err := a.script()
	return jobs.AsInputError("statements", err)
}

// UnmarshalJSON reads either form. Unknown fields are an error, and numbers keep
// all their digits.
func (a *Args) UnmarshalJSON(data []byte) error {
	var wire struct {
		Statements []json.RawMessage `json:"statements"`
		SQL        string            `json:"sql"`
		Params     []json.RawMessage `json:"params"`
	}
	err := strict(data, &wire)
	if err != nil {
		return fmt.Errorf("sqlscript: %w", err)
	}
	read := Args{SQL: wire.SQL, Statements: make([]Statement, len(wire.Statements))}
	if read.Params, err = readParams(wire.Params); err != nil {
		return fmt.Errorf("sqlscript: statement 1, %w", err)
	}
	for i, raw := range wire.Statements {
		if err := read.Statements[i].UnmarshalJSON(raw); err != nil {
			return fmt.Errorf("sqlscript: statement %d, %w", i+1, err)
		}
	}
	*a = read
	return nil
}

// UnmarshalJSON reads one statement. Unknown fields are an error.
func (s *Statement) UnmarshalJSON(data []byte) error {
	var wire struct {
		SQL    string            `json:"sql"`
		Params []json.RawMessage `json:"params"`
	}
	err := strict(data, &wire)
	if err == nil {
		s.SQL = wire.SQL
		s.Params, err = readParams(wire.Params)
	}
	return err
}

func readParams(list []json.RawMessage) ([]Param, error) {
	params := make([]Param, len(list))
	for i, raw := range list {
		if err := params[i].UnmarshalJSON(raw); err != nil {
			return nil, fmt.Errorf("parameter %d: %w", i+1, err)
		}
	}
	return params, nil
}

// strict decodes JSON and says what does not fit in the words of the JSON.
func strict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	err := decoder.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("want an object, got %s", wrong.Value)
	case errors.As(err, &wrong):
		want := map[string]string{"sql": "a string", "type": "a string"}[wrong.Field]
		if want == "" {
			want = "a list"
		}
		return fmt.Errorf("%s: want %s, got %s", wrong.Field, want, wrong.Value)
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind the value")
	}
	return nil
}

// script is the checked job: what Run runs.
func (a Args) script() ([]statement, error) {
	list := a.Statements
	if a.SQL != "" || len(a.Params) > 0 {
		if len(list) > 0 {
			return nil, errors.New(`give either "statements", or "sql" with "params", not both`)
		}
		list = []Statement{{SQL: a.SQL, Params: a.Params}}
	}
	if len(list) < 1 || len(list) > MaxStatements {
		return nil, fmt.Errorf("the job has %d statements: give 1 to %d", len(list), MaxStatements)
	}
	script := make([]statement, len(list))
	for i, s := range list {
		var err error
		if script[i], err = s.check(fmt.Sprintf("statement %d", i+1)); err != nil {
			return nil, err
		}
	}
	return script, nil
}

// check refuses a statement that no attempt can run; errors begin with name.
func (s Statement) check(name string) (statement, error) {
	checked := statement{sql: s.SQL}
	switch {
	case len(s.SQL) > MaxSQLBytes:
		return checked, fmt.Errorf("%s: the text is %d bytes long, at most %d are allowed: split it, or pass values as parameters", name, len(s.SQL), MaxSQLBytes)
	case !utf8.ValidString(s.SQL) || strings.ContainsRune(s.SQL, 0):
		return checked, fmt.Errorf("%s: the text holds bytes that are not UTF-8, or the character U+0000: remove them", name)
	case len(s.Params) > MaxParams:
		return checked, fmt.Errorf("%s: it has %d parameters, at most %d are allowed: pass a list as one parameter, as in = ANY ($1)", name, len(s.Params), MaxParams)
	}
	if why := refusal(s.SQL); why != "" {
		return checked, fmt.Errorf("%s: %s", name, why)
	}
	for i, param := range s.Params {
		value, err := param.encode()
		if err == nil && !strings.Contains(s.SQL, fmt.Sprintf("$%d", i+1)) {
			err = fmt.Errorf("the text has no $%d: use the value, or remove it", i+1)
		}
		if err != nil {
			return checked, fmt.Errorf("%s, parameter %d: %w", name, i+1, err)
		}
		checked.values = append(checked.values, value)
		checked.oids = append(checked.oids, types[param.Type].oid)
	}
	return checked, nil
}
