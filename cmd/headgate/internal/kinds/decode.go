package kinds

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/wire"
)

// decodeArgs reads JSON into a struct and refuses what the struct has no place
// for, in the words of the JSON: args.older_than_days: want integer.
func decodeArgs(raw []byte, into any) error {
	if err := checkObject(raw); err != nil {
		return err
	}
	given := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &given); err != nil {
		return cli.Usagef("args: %w", err)
	}
	fields := fieldsOf(reflect.TypeOf(into).Elem())
	for _, name := range slices.Sorted(maps.Keys(given)) {
		field, ok := fields[name]
		if !ok {
			return unknownArg(name, fields)
		}
		if string(given[name]) == "null" && field.Kind() != reflect.Pointer && field.Kind() != reflect.Interface {
			return cli.Usagef("args.%s: want %s, got null", name, jsonName(field))
		}
	}
	err := json.Unmarshal(raw, into)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return cli.Usagef("args.%s: want %s, got %s", wrong.Field, jsonName(wrong.Type), wrong.Value)
	}
	if err != nil {
		return cli.Usagef("args: %w", err)
	}
	return nil
}

func unknownArg(name string, fields map[string]reflect.Type) error {
	known := slices.Sorted(maps.Keys(fields))
	if len(known) == 0 {
		return cli.Usagef("args.%s: unknown argument; this kind takes none", cli.Cut(name))
	}
	return cli.Usagef("args.%s: unknown argument%s; this kind takes %s", cli.Cut(name), cli.DidYouMean(cli.Nearest(name, known, "")...), strings.Join(known, ", "))
}

// checkObject accepts the text of one JSON object.
func checkObject(raw []byte) error {
	var value map[string]json.RawMessage
	err := json.Unmarshal(raw, &value)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return cli.Usagef("args are not JSON: %w (at byte %d); write an object, as in '{\"table\": \"events\"}'", err, syntax.Offset)
	case err != nil || value == nil:
		return cli.Usagef("args must be a JSON object, as in '{\"table\": \"events\"}'")
	}
	for _, check := range []func([]byte) error{wire.CheckText, wire.CheckNames} { // decoding would put other values in their place
		if err := check(raw); err != nil {
			return cli.Usagef("%w", err)
		}
	}
	return nil
}

// fieldsOf returns a struct's fields by their names in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields[name] = f.Type
	}
	return fields
}

// jsonName is what JSON calls a Go type.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	case reflect.Slice, reflect.Array:
		return "list"
	default:
		return "object"
	}
}
