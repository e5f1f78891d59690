package wire

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CheckText says why Postgres could not store the text in a JSON value, or would
// store another: bytes that are not UTF-8, U+0000, half of a surrogate pair.
func CheckText(raw []byte) error {
	if at := notUTF8(raw); at >= 0 {
		return fmt.Errorf("args hold a byte that is not UTF-8 (%#02x, at byte %d): convert the text to UTF-8, or pass bytes as base64", raw[at], at)
	}
	escape, code := badEscape(raw)
	switch {
	case escape == "":
		return nil
	case code == 0:
		return errors.New(`args hold the character U+0000, which Postgres cannot store: remove it`)
	}
	return fmt.Errorf("args hold %s, which is half of a character: write the character itself, or both halves", escape)
}

// HalfCharacter returns the first escape of a JSON value that is half of a surrogate pair,
// as in \ud800, and "" if there is none. encoding/json reads such a half as U+FFFD.
func HalfCharacter(raw []byte) string {
	for {
		escape, code := badEscape(raw)
		if escape == "" || code != 0 {
			return escape
		}
		raw = raw[bytes.Index(raw, []byte(escape))+len(escape):]
	}
}

// badEscape is the first escape of a JSON value that Postgres cannot store: U+0000, or half of
// a surrogate pair.
func badEscape(raw []byte) (escape string, code uint64) {
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 || i+1 >= len(rest) {
			return "", 0
		}
		rest = rest[i:]
		code, ok := escaped(rest)
		switch {
		case !ok:
			rest = rest[2:]
		case code == 0:
			return string(rest[:6]), code
		case code >= 0xD800 && code < 0xDC00:
			if low, ok := escaped(rest[6:]); !ok || low < 0xDC00 || low > 0xDFFF {
				return string(rest[:6]), code
			}
			rest = rest[12:]
		case code >= 0xDC00 && code <= 0xDFFF:
			return string(rest[:6]), code
		default:
			rest = rest[6:]
		}
	}
}

// escaped reads \uXXXX at the beginning of text.
func escaped(text []byte) (code uint64, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	code, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return code, err == nil
}

// notUTF8 returns where text stops being UTF-8, or -1.
func notUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// replacement is what encoding/json writes for a byte that is not UTF-8. For U+FFFD
// itself it writes the character, so this is either such a byte, or was written so by
// a type that makes its own JSON.
var replacement = []byte(`\ufffd`)

// checkStrings names the first text in a value that is not UTF-8, and so was not
// encoded as it is. raw is what it was encoded as: nearly always that is enough to
// know that there is none.
func checkStrings(value any, raw []byte) error {
	if !bytes.Contains(raw, replacement) && utf8.Valid(raw) {
		return nil
	}
	at := broken(reflect.ValueOf(value), 0)
	if at == nil {
		return nil
	}
	where := "args" + *at + " is not UTF-8"
	if *at == "" {
		where = "args hold text that is not UTF-8"
	}
	return errors.New(where + ": convert the text to UTF-8, or pass bytes as []byte (base64)")
}

var (
	rawMessage    = reflect.TypeFor[json.RawMessage]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
)

// maxDepth is deeper than any value that encoding/json has encoded.
const maxDepth = 10_000

// broken returns the path, ".name[3]", of the first string in v that is not UTF-8.
func broken(v reflect.Value, depth int) *string {
	if !v.IsValid() || depth > maxDepth {
		return nil
	}
	within := func(path string, inner reflect.Value) *string {
		at := broken(inner, depth+1)
		if at == nil {
			return nil
		}
		whole := path + *at
		return &whole
	}
	if v.Type().Implements(jsonMarshaler) && v.Kind() != reflect.Pointer && v.Type() != rawMessage {
		if brokenIn(v, depth, within) != nil {
			return new(string) // how it calls its parts in JSON is its own
		}
		return nil
	}
	if v.Type().Implements(textMarshaler) && v.CanInterface() && (v.Kind() != reflect.Pointer || !v.IsNil()) {
		if text, err := v.Interface().(encoding.TextMarshaler).MarshalText(); err == nil && !utf8.Valid(text) {
			return new(string)
		}
		return nil
	}
	return brokenIn(v, depth, within)
}

// brokenIn is broken for what encoding/json encodes part by part.
func brokenIn(v reflect.Value, depth int, within func(path string, inner reflect.Value) *string) *string {
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return new(string)
		}
	case reflect.Pointer, reflect.Interface:
		return broken(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if path, ok := pathOf(v.Type().Field(i), v.Field(i)); ok {
				if at := within(path, v.Field(i)); at != nil {
					return at
				}
			}
		}
	case reflect.Map:
		for pairs := v.MapRange(); pairs.Next(); {
			if broken(pairs.Key(), depth+1) != nil {
				name := fmt.Sprintf(": the key %.40q", pairs.Key().String())
				return &name
			}
			if at := within(fmt.Sprintf(".%v", pairs.Key()), pairs.Value()); at != nil {
				return at
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type() == rawMessage && !utf8.Valid(v.Bytes()) {
			return new(string)
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil // base64, or JSON
		}
		for i := range v.Len() {
			if at := within(fmt.Sprintf("[%d]", i), v.Index(i)); at != nil {
				return at
			}
		}
	}
	return nil
}

// pathOf is a field's name in JSON, with its dot; false if it is not encoded. What a
// struct embeds has its fields for its own.
func pathOf(f reflect.StructField, v reflect.Value) (string, bool) {
	name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case name == "-", strings.Contains(opts, "omit") && v.IsZero():
		return "", false
	case name != "":
		return "." + name, true
	case f.Anonymous:
		return "", true
	}
	return "." + f.Name, true
}
