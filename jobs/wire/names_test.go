package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// written are arguments that make their own JSON.
type written string

func (written) Kind() string                   { return "app.written" }
func (w written) MarshalJSON() ([]byte, error) { return []byte(w), nil }

// A kind that makes its own JSON gives each name once: Postgres would keep the last.
func TestNamesAreGivenOnce(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		`{"a":1,"a":1}`:                 "args.a is given twice",
		`{"a":[{"b":1},{"b":1,"b":2}]}`: "args.a[1].b is given twice",
		`{"a":1e1001}`:                  "args.a is a number of more than 1000 digits",
		`{"a":[0,-1E-99999999999999]}`:  "args.a[1] is a number of more than 1000 digits",
	} {
		_, err := wire.EncodeArgs(written(args))
		require.ErrorContains(t, err, says, args)
	}
	for _, raw := range []string{`{"a":1}{"a":1}`, `{"a":1}]`, `{"a":`, ``, `{"a" 1}`} {
		require.ErrorContains(t, wire.CheckNames([]byte(raw)), "args are not", raw)
	}
	for _, raw := range []string{`{"a":{"b":1},"b":{"b":1},"c":[{"b":1},{"b":1}]}`, `{"a":1e400,"b":-1.5E-400}`, `[1,"a",null,true]`} {
		require.NoError(t, wire.CheckNames([]byte(raw)), raw)
		require.True(t, json.Valid([]byte(raw)))
	}
}

// Arguments nest as deep as every reader of JSON takes them, by the rule of headgate.enqueue.
func TestArgumentsThatNest(t *testing.T) {
	t.Parallel()
	nested := func(n int) written {
		return written(`{"text":"[[[\"[","a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`)
	}
	_, err := wire.EncodeArgs(nested(jobs.MaxArgsDepth))
	require.NoError(t, err)
	_, err = wire.EncodeArgs(nested(jobs.MaxArgsDepth + 1))
	require.ErrorContains(t, err, "args have more than 100 arrays and objects one in another")
}
