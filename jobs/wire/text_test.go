package wire_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// latin is text as a program has it that reads files in another encoding.
const latin = "r\xe9sum\xe9.pdf"

type inner struct {
	Texts []string `json:"texts"`
}

type texted struct {
	Name     string            `json:"name,omitempty"`
	Plain    string            `json:",omitempty"`
	Inner    *inner            `json:"inner,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Any      any               `json:"any,omitempty"`
	Raw      json.RawMessage   `json:"raw,omitempty"`
	Bytes    []byte            `json:"bytes,omitempty"`
	Upper    upper             `json:"upper,omitempty"`
	Unstored string            `json:"-"`
	inner
}

func (texted) Kind() string { return "texted" }

type upper string

func (u upper) MarshalText() ([]byte, error) { return []byte(strings.ToUpper(string(u)) + "\xff"), nil }

// Text that is not UTF-8 would be stored as another text, and two different ones as
// the same: it is refused, and the field is named.
func TestArgsThatAreNotUTF8AreRefused(t *testing.T) {
	t.Parallel()
	for says, args := range map[string]jobs.Args{
		"args.name is not UTF-8":                                      texted{Name: latin},
		"args.Plain is not UTF-8":                                     texted{Plain: latin},
		"args.inner.texts[1] is not UTF-8":                            texted{Inner: &inner{[]string{"a", latin}}},
		"args.labels.a is not UTF-8":                                  texted{Labels: map[string]string{"a": latin}},
		`args.labels: the key "r\xe9sum\xe9.pdf" is not UTF-8`:        texted{Labels: map[string]string{latin: "a"}},
		"args.any[0].texts[0] is not UTF-8":                           texted{Any: []inner{{[]string{latin}}}},
		"args.upper is not UTF-8":                                     texted{Upper: "a"},
		"args.texts[0] is not UTF-8":                                  texted{inner: inner{[]string{latin}}},
		"args.raw is not UTF-8":                                       texted{Raw: json.RawMessage(`"` + latin + `"`)},
		"half of a character":                                         texted{Raw: json.RawMessage(`"\ud83d"`)},
		`args hold \udE00`:                                            texted{Raw: json.RawMessage(`"\udE00 a"`)},
		"U+0000":                                                      texted{Name: "a\x00"},
		`args hold text that is not UTF-8`:                            own{`{"name": "r` + "\xe9" + `"}`},
		`args hold the character U+0000, which Postgres cannot store`: own{`{"name": "\\\u0000"}`},
	} {
		_, err := wire.EncodeArgs(args)
		require.ErrorContains(t, err, says)
		_, err = wire.Follow(nil, true, args, nil)
		require.ErrorContains(t, err, says)
	}
	require.ErrorContains(t, wire.CheckText([]byte(`{"name": "r`+"\xe9"+`"}`)), "args hold a byte that is not UTF-8 (0xe9, at byte 11)")
}

// own makes its own JSON.
type own struct{ json string }

func (own) Kind() string                   { return "own" }
func (o own) MarshalJSON() ([]byte, error) { return []byte(o.json), nil }

// What is UTF-8 is stored as it is: U+FFFD itself, written out or not, bytes as
// base64, what is not encoded at all, pairs of surrogates, backslashes before a u.
func TestArgsThatAreUTF8AreKept(t *testing.T) {
	t.Parallel()
	for _, args := range []jobs.Args{
		texted{Name: "\uFFFD"}, texted{Bytes: []byte(latin)}, texted{Unstored: latin, Raw: json.RawMessage(`"\ufffd"`)},
		texted{Name: "Zoë 😀", Raw: json.RawMessage(`"\ud83d\ude00 \\ud83d \\u0000 \n"`)}, own{`{"a":"\ufffd"}`},
	} {
		raw, err := wire.EncodeArgs(args)
		require.NoError(t, err)
		want, err := json.Marshal(args)
		require.NoError(t, err)
		require.Equal(t, string(want), string(raw))
	}
	rapid.Check(t, func(t *rapid.T) {
		args := texted{Name: string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))}
		raw, err := wire.EncodeArgs(args)
		if !utf8.ValidString(args.Name) || strings.Contains(args.Name, "\x00") {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		var back texted
		require.NoError(t, json.Unmarshal(raw, &back))
		require.Equal(t, args, back)
	})
}
