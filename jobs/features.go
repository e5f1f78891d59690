package jobs

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// Features are the values of a tenant's features: its own, else its plan's, else the
// defaults. They do not change. In JSON they are an object. The zero value has none.
type Features struct {
	values map[string]json.RawMessage
	seen   func(name string, value json.RawMessage)
}

// Feature returns the value of a feature. One that the catalog does not know, or that has
// no value anywhere, is absent. In a handler the values are those of the attempt's start,
// and what the handler asks for is recorded with the attempt.
func (t Tenant) Feature(name string) Feature {
	value := t.Features.values[name]
	if t.Features.seen != nil {
		t.Features.seen(name, value)
	}
	return Feature{value}
}

// Names returns the names of the features that have values, sorted.
func (f Features) Names() []string { return slices.Sorted(maps.Keys(f.values)) }

// Value returns a value as JSON, nil where it is absent. It is not recorded.
func (f Features) Value(name string) json.RawMessage { return f.values[name] }

// Watched returns the same values, and has seen called with each value that
// [Tenant.Feature] is asked for; nil says that the feature is absent. seen must be safe for
// concurrent use. The worker records by it what a handler went by.
func (f Features) Watched(seen func(name string, value json.RawMessage)) Features {
	f.seen = seen
	return f
}

// MarshalJSON writes an object.
func (f Features) MarshalJSON() ([]byte, error) {
	if f.values == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(f.values)
}

// UnmarshalJSON reads an object of booleans, numbers and texts.
func (f *Features) UnmarshalJSON(text []byte) error {
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	*f = Features{values: values}
	return nil
}

// Feature is a feature's value for one tenant: a boolean, a number, a text, or absent.
type Feature struct{ value json.RawMessage }

// Exists says whether the feature has a value.
func (f Feature) Exists() bool { return len(f.value) > 0 }

// Bool is true if the value is the boolean true. An absent feature is off.
func (f Feature) Bool() bool { return bytes.Equal(f.value, []byte("true")) }

// Number returns the value, or otherwise where the feature is absent or not a number that
// fits a float64.
func (f Feature) Number(otherwise float64) float64 {
	if n, err := strconv.ParseFloat(string(f.value), 64); err == nil {
		return n
	}
	return otherwise
}

// Text returns the value, or otherwise where the feature is absent or no text.
func (f Feature) Text(otherwise string) string {
	var text *string
	if err := json.Unmarshal(f.value, &text); err != nil || text == nil {
		return otherwise
	}
	return *text
}
