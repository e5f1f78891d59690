package jobs

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
)

// MaxArgs bounds the arguments of one job, in bytes of JSON.
const MaxArgs = 256 << 10

// MaxArgsDepth bounds how many arrays and objects of arguments stand one in another, the
// arguments' own object included. Readers of JSON have bounds of their own beyond that.
const MaxArgsDepth = 100

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
		return Inputf("kind", kind, "a kind's name is 2 to 127 of the letters a to z and A to Z, digits, and _ - . : / + < > [ ] ·, beginning with a letter, a digit or _")
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
		return Inputf("queue", queue, "a queue's name is 1 to %d lower-case letters and digits, and single dashes or underscores between them", MaxQueueName)
	}
	return nil
}

// CheckArgs says why no attempt could work with arguments: there are none, or their own
// Check refuses them.
func CheckArgs(args Args) error {
	const missing = "args are missing"
	if args == nil {
		return AsInputError("args", errors.New(missing+": give a value of the kind's struct"))
	}
	if v := reflect.ValueOf(args); v.Kind() == reflect.Pointer && v.IsNil() {
		return AsInputError("args", fmt.Errorf("%s: a nil %T is given: give a value of the kind's struct", missing, args))
	}
	checked, ok := args.(WithCheck)
	if !ok {
		return nil
	}
	if err := checked.Check(); err != nil {
		return AsInputError("args", fmt.Errorf("args of kind %s: %w", args.Kind(), err))
	}
	return nil
}
