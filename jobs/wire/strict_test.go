package wire_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs/wire"
)

// Base is embedded.
type Base struct {
	ID   int `json:"id"`
	Hide int `json:"-"`
}

// Named is embedded under a name.
type Named struct{ Deep string }

// readsOwn reads its own JSON.
type readsOwn struct{ raw string }

func (o *readsOwn) UnmarshalJSON(raw []byte) error { o.raw = string(raw); return nil }

// exact has a field of each kind.
type exact struct {
	Base
	Named `json:"named"`
	*Extra
	Name    string `json:"name"`
	Plain   int
	Maybe   *int               `json:"maybe"`
	List    []string           `json:"list"`
	Inner   struct{ A, B int } `json:"inner"`
	Inners  []struct{ A int }  `json:"inners"`
	ByName  map[string]*Named  `json:"by_name"`
	Any     any                `json:"any"`
	Raw     json.RawMessage    `json:"raw"`
	Own     readsOwn           `json:"own"`
	At      time.Time          `json:"at"`
	From    netip.Addr         `json:"from"`
	Pair    [2]int             `json:"pair"`
	Pairs   [][2]int           `json:"pairs"`
	Fixed   *[1]string         `json:"fixed"`
	Text    int                `json:"text,string"`
	Odd     int                `json:"a\"b"` //nolint:staticcheck // encoding/json takes the field's own name
	Minus   int                `json:"-,"`   //nolint:staticcheck // the name is -
	private int
}

// Extra is embedded by a pointer.
type Extra struct{ More bool }

// What encoding/json takes without a word, a strict kind refuses, by the field's name.
func TestStrict(t *testing.T) {
	t.Parallel()
	_ = exact{}.private
	for raw, says := range map[string]string{
		`{}`: "", `{"name": "x", "Plain": 1, "id": 2, "More": true, "Odd": 1, "-": 1}`: "",
		`{"maybe": null, "list": null, "any": null, "by_name": null, "raw": null, "own": null, "inners": null}`:                                                                "",
		`{"any": {"Name": 1, "name": null}, "raw": {"x": null}, "own": {"a": [null]}, "by_name": {"x": null, "X": {"Deep": ""}}}`:                                              "",
		`{"named": {"Deep": ""}, "at": "2026-01-02T03:04:05Z", "from": "10.0.0.1", "pair": [1, 2], "pairs": [[1, 2]], "fixed": ["x"], "text": "7", "inner": {"A": 1, "B": 2}}`: "",

		`{"Name": "s3cret"}`:                     `"Name" is no field of the kind's, and the kind takes no others`,
		`{"plain": 77}`:                          `"plain" is no field`,
		`{"ID": 77}`:                             `"ID" is no field`,
		`{"inner": {"a": 77}}`:                   `"a" is no field`,
		`{"inners": [{"A": 1}, {"a": 77}]}`:      `"a" is no field`,
		`{"by_name": {"x": {"deep": "s3cret"}}}`: `"deep" is no field`,
		`{"Deep": "s3cret"}`:                     `"Deep" is no field`,
		`{"hide": 77}`:                           `"hide" is no field`,
		`{"private": 77}`:                        `"private" is no field`,
		`{"name": "x", "name": "s3cret"}`:        `"name" is given twice: one object has each name once`,
		`{"name": "x", "n\u0061me": "s3cret"}`:   `"name" is given twice`,
		`{"by_name": {"x": null, "x": null}}`:    `"x" is given twice`,
		`{"any": {"x": {"y": 1, "y": 77}}}`:      `"y" is given twice`,
		`{"raw": [{"y": 1, "y": 77}]}`:           `"y" is given twice`,
		`{"name": null}`:                         `"name" is null: give a string, or leave the field out`,
		`{"Plain": null}`:                        `"Plain" is null: give a number`,
		`{"More": null}`:                         `"More" is null: give true or false`,
		`{"inner": null}`:                        `"inner" is null: give an object`,
		`{"inners": [null]}`:                     `"inners" is null: give an object`,
		`{"list": ["x", null]}`:                  `"list" is null: give a string`,
		`{"pair": null}`:                         `"pair" is null: give an array`,
		`{"at": null}`:                           `"at" is null: give a time`,
		`{"from": null}`:                         `"from" is null: give a string`,
		`{"text": null}`:                         `"text" is null: give a number`,
		`{"pair": [77]}`:                         `"pair" has 1 elements, and the field takes 2: give exactly as many`,
		`{"pair": []}`:                           `"pair" has 0 elements`,
		`{"pair": [1, 2, 77]}`:                   `"pair" has 3 elements`,
		`{"pairs": [[1, 2], [77, 1, 2]]}`:        `"pairs" has 3 elements`,
		`null`:                                   `they are null: give an object`,
		" \n null ":                              `they are null`,
		`{"name": "x"} {"name": "s3cret"}`:       `there is more behind the first value of their JSON`,
		`{"name": "x"} s3cret`:                   `there is more behind`,
		`{"name": "x"`:                           `unexpected EOF`,
	} {
		var into exact
		err := wire.DecodeArgs([]byte(raw), &into, true)
		if says == "" {
			require.NoError(t, err, raw)
			continue
		}
		require.ErrorContains(t, err, says, raw)
		require.NotContains(t, err.Error(), "s3cret", raw)
		require.NotContains(t, err.Error(), "77", raw)
	}
	require.ErrorAs(t, wire.DecodeArgs([]byte(`{"Name": ""}`), &exact{}, true), new(*wire.UnknownFieldError))
	require.ErrorAs(t, wire.DecodeArgs([]byte(`{"name": "", "name": ""}`), &exact{}, true), new(*wire.DuplicateFieldError))
	require.ErrorAs(t, wire.DecodeArgs([]byte(`{"name": null}`), &exact{}, true), new(*wire.NullFieldError))
	require.ErrorAs(t, wire.DecodeArgs([]byte(`{"pair": [1]}`), &exact{}, true), new(*wire.ArrayLengthError))

	// Control: others take all of it.
	for _, raw := range []string{`{"Name": "x"}`, `{"name": "x", "name": "y"}`, `{"name": null}`, `null`, `{"pair": [1]}`, `{"pair": [1, 2, 3]}`} {
		require.NoError(t, wire.DecodeArgs([]byte(raw), &exact{}, false), raw)
	}
}

// What Go itself writes of a value is taken, strictly too.
func TestStrictTakesWhatGoWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := exact{
			Name: rapid.String().Draw(t, "name"), Maybe: rapid.Ptr(rapid.Int(), true).Draw(t, "maybe"), List: rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "list"),
			ByName: rapid.MapOfN(rapid.String(), rapid.Ptr(rapid.Just(Named{"x"}), true), 0, 3).Draw(t, "by name"), From: netip.AddrFrom4([4]byte{10, 0, 0, 1}),
		}
		if rapid.Bool().Draw(t, "extra") {
			value.Extra = &Extra{true}
		}
		raw, err := json.Marshal(value)
		require.NoError(t, err)
		require.NoError(t, wire.DecodeArgs(raw, &exact{}, true), "%s", raw)
	})
}

// What is taken strictly is read as it is read otherwise, and means one thing.
func FuzzStrict(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name": "x"}`, `{"Name": 1}`, `{"inner": {"A": 1}, "any": [{"a": null}]}`, `{"by_name": {"x": {"Deep": ""}}}`, `[`, `{"a": 1} 2`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var strictly, loosely exact
		if wire.DecodeArgs(raw, &strictly, true) != nil {
			return
		}
		require.NoError(t, wire.DecodeArgs(raw, &loosely, false))
		require.True(t, reflect.DeepEqual(loosely, strictly), "%s", raw)
	})
}
