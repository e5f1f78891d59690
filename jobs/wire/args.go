package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/headgate/headgate/jobs"
)

// CheckStored says why JSON is none of a kind's arguments: what EncodeArgs refuses, and
// what does not fit the type of like, which is any value of the kind's struct. Types
// that hold the JSON of any kind take what is an object.
func CheckStored(like jobs.Args, raw []byte) error {
	if !json.Valid(raw) {
		return fmt.Errorf("args of kind %s are not JSON", like.Kind())
	}
	if err := errors.Join(checkObject(like.Kind(), bytes.TrimSpace(raw)), CheckText(raw)); err != nil {
		return err
	}
	args, err := decodeLike(like, raw)
	if err != nil {
		return fmt.Errorf("args of kind %s do not fit its struct: %w", like.Kind(), err)
	}
	return jobs.CheckArgs(args)
}

// UnknownFieldError is a field of arguments that the kind's struct does not have.
type UnknownFieldError struct {
	Field string // its name in JSON; of a field within others the last part
}

func (e *UnknownFieldError) Error() string {
	return fmt.Sprintf("%.80q is no field of the kind's, and the kind takes no others", e.Field)
}

// DecodeArgs reads JSON into a kind's struct. Its error names the field that does not
// fit, in the words of JSON and without the value. strict refuses fields that the struct
// does not have by these very names (*UnknownFieldError), names that one object has twice
// (*DuplicateFieldError), null where the field's type has no null (*NullFieldError), null in
// the place of all, and arrays of another length than their type's (*ArrayLengthError).
func DecodeArgs(raw []byte, into any, strict bool) error {
	err := unmarshal(raw, into, strict)
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	got, _, _ := strings.Cut(wrong.Value, " ") // not the number itself
	if wrong.Field == "" {
		return fmt.Errorf("they are %s", indefinite(got))
	}
	return fmt.Errorf("%s is %s", wrong.Field, indefinite(got))
}

func unmarshal(raw []byte, into any, strict bool) error {
	if !strict {
		return json.Unmarshal(raw, into)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && !json.Valid(raw) { // the decoder ends with the first value
		return errors.New("there is more behind the first value of their JSON")
	}
	if err == nil {
		return checkStrict(raw, reflect.TypeOf(into))
	}
	if quoted, is := strings.CutPrefix(err.Error(), unknownField); is {
		if name, err := strconv.Unquote(quoted); err == nil {
			return &UnknownFieldError{name}
		}
	}
	return err
}

// unknownField begins encoding/json's error, which is of no type of its own.
const unknownField = "json: unknown field "

func indefinite(noun string) string {
	if noun == "array" || noun == "object" {
		return "an " + noun
	}
	return "a " + noun
}

// decodeLike reads JSON into a new value of like's type. A type whose Kind differs
// from value to value is no kind's struct, and is answered with like itself.
func decodeLike(like jobs.Args, raw []byte) (jobs.Args, error) {
	t := reflect.TypeOf(like)
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	read := reflect.New(t)
	err := DecodeArgs(raw, read.Interface(), jobs.KindOptsOf(like).StrictArgs)
	if !pointer {
		read = read.Elem()
	}
	args, ok := read.Interface().(jobs.Args)
	if !ok || args.Kind() != like.Kind() {
		return like, nil
	}
	return args, err
}

// checkObject refuses JSON that is too long, or no object.
func checkObject(kind string, raw []byte) error {
	switch {
	case len(raw) > jobs.MaxArgs:
		return fmt.Errorf("args are %d bytes of JSON: at most %d; keep the document elsewhere and pass its name", len(raw), jobs.MaxArgs)
	case len(raw) == 0 || raw[0] != '{':
		return fmt.Errorf("args of kind %s encode as %s: they must be a JSON object", kind, jsonType(raw))
	case depth(raw) > jobs.MaxArgsDepth:
		return fmt.Errorf("args have more than %d arrays and objects one in another: make them flatter, or pass the document as text", jobs.MaxArgsDepth)
	}
	return nil
}

// depth is how many arrays and objects of JSON stand one in another at most.
func depth(raw []byte) (most int) {
	now, text := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{', c == '[':
			now++
			most = max(most, now)
		case c == '}', c == ']':
			now--
		}
	}
	return most
}

// EncodeArgs returns arguments as a JSON object that Postgres can store, or says
// why they are none, or why no attempt could work with them (CheckArgs). Text that is not UTF-8 is refused, with the field that holds it:
// encoding/json would store another text without a word.
func EncodeArgs(args jobs.Args) ([]byte, error) {
	if err := jobs.CheckArgs(args); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("args of kind %s do not encode as JSON: %w", args.Kind(), err)
	}
	if err := checkObject(args.Kind(), raw); err != nil {
		return nil, err
	}
	if err := checkStrings(args, raw); err != nil {
		return nil, err
	}
	if err := CheckText(raw); err != nil {
		return nil, err
	}
	if _, own := args.(json.Marshaler); own { // else encoding/json has written the names
		if err := CheckNames(raw); err != nil {
			return nil, err
		}
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
