package sqlscript

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Param is the value of one parameter. In JSON it is {"type": …, "value": …}, or
// a bare scalar: a string, a number, true, false or null.
type Param struct {
	// Type is the value's Postgres type: text, int, bigint, numeric, boolean,
	// date, timestamptz, uuid, jsonb, bytea, text[], bigint[] or uuid[]. "" means
	// that Postgres takes it from where the parameter stands in the statement; the
	// value must then be a scalar.
	Type string

	// Value is anything that encodes as the JSON of the type; nil is NULL for
	// every type. bigint and numeric take a number or a string of digits, bytea
	// base64 (a []byte encodes so), date "2027-01-31", timestamptz RFC 3339 with a
	// zone (a time.Time encodes so; Postgres keeps microseconds). Read from JSON,
	// a number is a json.Number.
	Value any
}

// typedParam is a Param with a type as it stands in JSON.
type typedParam struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// MarshalJSON writes a bare scalar where there is no type.
func (p Param) MarshalJSON() ([]byte, error) {
	raw, err := json.Marshal(p.Value)
	if err != nil || p.Type == "" {
		return raw, err
	}
	return json.Marshal(typedParam{Type: p.Type, Value: raw})
}

// UnmarshalJSON reads either form. Whether the value fits the type is for
// [Args.Check] to say.
func (p *Param) UnmarshalJSON(data []byte) error {
	read := Param{}
	if data = bytes.TrimSpace(data); bytes.HasPrefix(data, []byte("{")) {
		wire := typedParam{}
		if err := strict(data, &wire); err != nil {
			return err
		}
		switch {
		case wire.Type == "":
			return fmt.Errorf(`"type" is missing: give one of %s`, knownTypes())
		case wire.Value == nil:
			return errors.New(`"value" is missing: give null for NULL`)
		}
		read.Type, data = wire.Type, wire.Value
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&read.Value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind the value")
	}
	*p = read
	return nil
}

// encode returns the value in the text form of Postgres's protocol, nil for
// NULL, or says what would fit.
func (p Param) encode() ([]byte, error) {
	raw, err := json.Marshal(p.Value)
	if err != nil {
		return nil, errors.New("the value does not encode as JSON")
	}
	t, known := types[p.Type]
	if !known {
		return nil, fmt.Errorf("type %.40q is not known: give one of %s, or leave it out", p.Type, knownTypes())
	}
	if string(raw) == "null" {
		return nil, nil
	}
	text, ok := t.read(raw)
	if !ok {
		return nil, fmt.Errorf("want %s, got %s", t.want, t.shown(raw))
	}
	return []byte(text), nil
}

func knownTypes() string {
	return strings.Join(slices.Sorted(maps.Keys(types))[1:], ", ") // the first is "", no type
}

// shown is a wrong value as an error may name it: not the content of texts and
// documents, which may hold what is nobody's business.
func (t valueType) shown(raw json.RawMessage) string {
	if !t.private && len(raw) <= 40 {
		return string(raw)
	}
	switch raw[0] {
	case '"':
		return "another string"
	case '{':
		return "an object"
	case '[':
		return "a list that is not so"
	case 't', 'f':
		return "true or false"
	}
	return "a number"
}
