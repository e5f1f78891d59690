package jobs

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// MaxArgs bounds the arguments of one job, in bytes of JSON.
const MaxArgs = 256 << 10

// MaxQueueName bounds the name of a queue, in bytes.
const MaxQueueName = 64

// The names of kinds are those that River takes, and its table; those of queues are
// a part of them.
var (
	kindName  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_\-\[\]<>/.·:+]{1,126}$`)
	queueName = regexp.MustCompile(`^[a-z0-9]+([_-][a-z0-9]+)*$`)
)

// CheckKind says what is wrong with the name of a kind.
func CheckKind(kind string) error {
	if !kindName.MatchString(kind) {
		return fmt.Errorf("kind %.64q: a kind's name is 2 to 127 of the letters a to z and A to Z, digits, and _ - . : / + < > [ ] ·, beginning with a letter, a digit or _", kind)
	}
	return nil
}

// BulkQueue is the queue of work that is for many tenants and in no hurry: the
// built-in maintenance kinds go there. It has slots of its own, so that nobody who
// waits for an answer waits behind it.
const BulkQueue = "bulk"

// CheckQueue says what is wrong with the name of a queue.
func CheckQueue(queue string) error {
	if len(queue) > MaxQueueName || !queueName.MatchString(queue) {
		return fmt.Errorf("queue %.64q: a queue's name is 1 to %d lower-case letters and digits, and single dashes or underscores between them", queue, MaxQueueName)
	}
	return nil
}

// EncodeArgs returns arguments as a JSON object that Postgres can store, or says
// why they are none. Text that is not UTF-8 is refused, with the field that holds it:
// encoding/json would store another text without a word.
func EncodeArgs(args Args) ([]byte, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("args of kind %s do not encode as JSON: %w", args.Kind(), err)
	}
	switch {
	case len(raw) > MaxArgs:
		return nil, fmt.Errorf("args are %d bytes of JSON: at most %d; keep the document elsewhere and pass its name", len(raw), MaxArgs)
	case len(raw) == 0 || raw[0] != '{':
		return nil, fmt.Errorf("args of kind %s encode as %s: they must be a JSON object", args.Kind(), jsonType(raw))
	}
	if err := checkStrings(args, raw); err != nil {
		return nil, err
	}
	if err := CheckText(raw); err != nil {
		return nil, err
	}
	return raw, nil
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
