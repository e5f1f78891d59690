package wire_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// checked refuses an empty name.
type checked struct {
	Name string `json:"name"`
	N    int8   `json:"n,omitempty"`
}

func (checked) Kind() string { return "checked" }

func (c checked) Check() error {
	if c.Name == "" {
		return errors.New("name is empty: give one")
	}
	return nil
}

type plain struct{}

func (plain) Kind() string { return "plain" }

// byPointer is a kind whose methods take pointers.
type byPointer struct{ plain }

func (p *byPointer) Check() error { return errors.New("never right") }

// anyKind holds the JSON of whatever kind it says.
type anyKind struct{ kind, json string }

func (a anyKind) Kind() string                 { return a.kind }
func (a anyKind) MarshalJSON() ([]byte, error) { return []byte(a.json), nil }

func TestCheckArgs(t *testing.T) {
	t.Parallel()
	require.NoError(t, jobs.CheckArgs(plain{}))
	require.NoError(t, jobs.CheckArgs(checked{Name: "x"}))
	require.NoError(t, jobs.CheckArgs(&checked{Name: "x"}))
	require.EqualError(t, jobs.CheckArgs(checked{}), "args of kind checked: name is empty: give one")
	require.EqualError(t, jobs.CheckArgs(&checked{}), "args of kind checked: name is empty: give one")
	require.EqualError(t, jobs.CheckArgs(&byPointer{}), "args of kind plain: never right")
	require.EqualError(t, jobs.CheckArgs(nil), "args are missing: give a value of the kind's struct")
	require.EqualError(t, jobs.CheckArgs((*checked)(nil)), "args are missing: a nil *wire_test.checked is given: give a value of the kind's struct")
	_, err := wire.EncodeArgs((*checked)(nil))
	require.ErrorContains(t, err, "args are missing")
	_, err = wire.EncodeArgs(checked{})
	require.EqualError(t, err, "args of kind checked: name is empty: give one")
}

func TestCheckStored(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"name": "x"}`:            "",
		` {"name": "x", "new": 1}`: "",
		`{"name": ""}`:             "args of kind checked: name is empty: give one",
		`{}`:                       "args of kind checked: name is empty: give one",
		`{"name": 7}`:              "args of kind checked do not fit its struct: name is a number",
		`{"name": "x", "n": 777}`:  "args of kind checked do not fit its struct: n is a number",
		`{"name": "x"`:             "args of kind checked are not JSON",
		`{"name": "x"} {}`:         "args of kind checked are not JSON",
		``:                         "args of kind checked are not JSON",
		`null`:                     "args of kind checked encode as a bare value: they must be a JSON object",
		`["x"]`:                    "args of kind checked encode as an array: they must be a JSON object",
		`{"name": "\ud800"}`:       `args hold \ud800, which is half of a character: write the character itself, or both halves`,
	} {
		for _, like := range []jobs.Args{checked{}, &checked{}} {
			if err := wire.CheckStored(like, []byte(raw)); want == "" {
				require.NoError(t, err, raw)
			} else {
				require.EqualError(t, err, want, raw)
			}
		}
	}
	require.NoError(t, wire.CheckStored(anyKind{kind: "theirs"}, []byte(`{"whatever": [1]}`)))
	require.ErrorContains(t, wire.CheckStored(anyKind{kind: "theirs"}, []byte(`[1]`)), "must be a JSON object")
}
