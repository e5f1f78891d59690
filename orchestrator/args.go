package orchestrator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/headgate/headgate/jobs"
)

// MaxArgs bounds the arguments of one job, in bytes of JSON.
const MaxArgs = 256 << 10

// encodeArgs returns the arguments as a JSON object that Postgres can store.
func encodeArgs(args jobs.Args) ([]byte, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("args of kind %s do not encode as JSON: %w", args.Kind(), err)
	}
	switch {
	case len(raw) > MaxArgs:
		return nil, fmt.Errorf("args are %d bytes of JSON: at most %d; keep the document elsewhere and pass its name", len(raw), MaxArgs)
	case len(raw) == 0 || raw[0] != '{':
		return nil, fmt.Errorf("args of kind %s encode as %s: they must be a JSON object", args.Kind(), jsonType(raw))
	case hasNUL(raw):
		return nil, errors.New(`args hold the character U+0000, which Postgres cannot store: remove it`)
	}
	return raw, nil
}

// hasNUL reports whether JSON text holds an escaped NUL: \u0000 behind an even
// number of backslashes.
func hasNUL(raw []byte) bool {
	for rest := raw; ; {
		i := bytes.Index(rest, []byte(`\u0000`))
		if i < 0 {
			return false
		}
		before := len(rest[:i]) - len(bytes.TrimRight(rest[:i], `\`))
		if before%2 == 0 {
			return true
		}
		rest = rest[i+1:]
	}
}

func jsonType(raw []byte) string {
	switch {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '[':
		return "an array"
	case raw[0] == '"':
		return "a string"
	default:
		return "a bare value"
	}
}
