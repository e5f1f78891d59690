package wire

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// encoding/json takes a field's name in any case, takes a name twice, reads null as "leave the
// field as it is", and fills or cuts an array to its type's length. Somebody who writes JSON by
// hand means something else by each, so a strict kind refuses all of it.

// DuplicateFieldError is a name that one object of arguments has twice.
type DuplicateFieldError struct{ Field string }

func (e *DuplicateFieldError) Error() string {
	return fmt.Sprintf("%.80q is given twice: one object has each name once", e.Field)
}

// NullFieldError is null in the place of a value that a field needs.
type NullFieldError struct{ Field, Wants string }

func (e *NullFieldError) Error() string {
	return fmt.Sprintf("%.80q is null: give %s, or leave the field out", e.Field, e.Wants)
}

// ArrayLengthError is an array that is longer or shorter than its field's.
type ArrayLengthError struct {
	Field     string
	Has, Want int
}

func (e *ArrayLengthError) Error() string {
	return fmt.Sprintf("%.80q has %d elements, and the field takes %d: give exactly as many", e.Field, e.Has, e.Want)
}

// errNoArgs is null in the place of the arguments.
var errNoArgs = errors.New("they are null: give an object")

// checkStrict refuses in valid JSON what encoding/json takes for a type without a word.
func checkStrict(raw []byte, into reflect.Type) error {
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return errNoArgs
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	return strict(decoder, into, "")
}

// strict reads one value, which is of a type, nil for any, and stands in a field.
func strict(decoder *json.Decoder, of reflect.Type, field string) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	for of != nil && of.Kind() == reflect.Pointer && token != nil && !readsItself(of) {
		of = of.Elem()
	}
	if token == nil {
		if wants := needs(of); wants != "" {
			return &NullFieldError{field, wants}
		}
		return nil
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if of != nil && readsItself(of) {
		of = nil
	}
	if delim == '[' {
		err = strictList(decoder, of, field)
	} else {
		err = strictObject(decoder, of)
	}
	if err != nil {
		return err
	}
	_, err = decoder.Token() // its end
	return err
}

func strictList(decoder *json.Decoder, of reflect.Type, field string) error {
	inner := reflect.Type(nil)
	if of != nil && (of.Kind() == reflect.Slice || of.Kind() == reflect.Array) {
		inner = of.Elem()
	}
	has := 0
	for ; decoder.More(); has++ {
		if err := strict(decoder, inner, field); err != nil {
			return err
		}
	}
	if of != nil && of.Kind() == reflect.Array && has != of.Len() {
		return &ArrayLengthError{field, has, of.Len()}
	}
	return nil
}

func strictObject(decoder *json.Decoder, of reflect.Type) error {
	fields, values := map[string]reflect.Type(nil), reflect.Type(nil)
	switch {
	case of == nil:
	case of.Kind() == reflect.Struct:
		fields = fieldsOf(of)
	case of.Kind() == reflect.Map:
		values = of.Elem()
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // a name is one
		inner := values
		if fields != nil {
			declared, known := fields[name]
			if !known {
				return &UnknownFieldError{name}
			}
			inner = declared
		}
		if seen[name] {
			return &DuplicateFieldError{name}
		}
		seen[name] = true
		if err := strict(decoder, inner, name); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOf are the fields of a struct by their exact names in JSON. Of those that share a
// name the outermost counts; encoding/json has refused what it takes for none.
func fieldsOf(of reflect.Type) map[string]reflect.Type {
	fields, depths := map[string]reflect.Type{}, map[string]int{}
	for _, f := range reflect.VisibleFields(of) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || within(of, f):
			continue
		case f.Anonymous && name == "" && isStruct(f.Type): // its fields come by themselves
			continue
		case !f.IsExported():
			continue
		case name == "" || strings.ContainsFunc(name, noName):
			name = f.Name
		}
		if depth, known := depths[name]; !known || len(f.Index) < depth {
			fields[name], depths[name] = f.Type, len(f.Index)
		}
	}
	return fields
}

// noName says of a character that encoding/json takes no tag with it for a name.
func noName(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r)
}

// within says that a field belongs to an embedded struct that has a name in JSON, or none.
func within(of reflect.Type, f reflect.StructField) bool {
	for n := 1; n < len(f.Index); n++ {
		outer := of.FieldByIndex(f.Index[:n])
		if outer.Tag.Get("json") == "-" {
			return true
		}
		if name, _, _ := strings.Cut(outer.Tag.Get("json"), ","); name != "" {
			return true
		}
	}
	return false
}

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

var (
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textType        = reflect.TypeFor[encoding.TextUnmarshaler]()
	timeType        = reflect.TypeFor[time.Time]()
)

// readsItself says that a type has code of its own that reads its JSON.
func readsItself(t reflect.Type) bool {
	return t.Implements(unmarshalerType) || reflect.PointerTo(t).Implements(unmarshalerType) || reflect.PointerTo(t).Implements(textType)
}

// needs is what a type takes in JSON that cannot be null, "" for one that can: Go writes null
// for pointers, lists, maps and interfaces that are nil.
func needs(t reflect.Type) string {
	switch {
	case t == nil:
		return ""
	case t == timeType:
		return "a time"
	case t.Implements(unmarshalerType) || reflect.PointerTo(t).Implements(unmarshalerType):
		return "" // its own code is asked
	case reflect.PointerTo(t).Implements(textType) && t.Kind() != reflect.Pointer && t.Kind() != reflect.Slice && t.Kind() != reflect.Map:
		return "a string"
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return ""
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Struct:
		return "an object"
	case reflect.Array:
		return "an array"
	default:
		return "a number"
	}
}
