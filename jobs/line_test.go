package jobs

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, both, values string }{
		"empty":           {"", "", ""},
		"letters":         {"größe 日本", "", ""},
		"as long as may":  {strings.Repeat("é", 9) + "x", "", ""},
		"too long":        {strings.Repeat("é", 11), "11 characters is too long; at most 10 are allowed", ""},
		"NUL":             {"a\x00", "control characters and invalid UTF-8 are not allowed", ""},
		"line feed":       {"a\nb", "control characters and invalid UTF-8 are not allowed", ""},
		"escape":          {"\x1b[31m", "control characters and invalid UTF-8 are not allowed", ""},
		"C1":              {"a\u009b", "control characters and invalid UTF-8 are not allowed", ""},
		"no UTF-8":        {"a\xff", "control characters and invalid UTF-8 are not allowed", ""},
		"zero width":      {"pro\u200b", "the invisible character U+200B is not allowed", ""},
		"byte order mark": {"\ufeffpro", "the invisible character U+FEFF is not allowed", ""},
		"override":        {"a\u202eb", "the invisible character U+202E is not allowed", ""},
		"isolate":         {"a\u2066b", "the invisible character U+2066 is not allowed", ""},
		"line separator":  {"a\u2028b", "the invisible character U+2028 is not allowed", ""},
		"soft hyphen":     {"a\u00adb", "the invisible character U+00AD is not allowed", ""},
		"blank":           {" ", "there are blanks alone: give a text, or none", ""},
		"blanks":          {"\u00a0\u3000", "there are blanks alone: give a text, or none", ""},
		"joiner":          {"👩\u200d🔬", "", "the invisible character U+200D is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for check, want := range map[string]string{"text": test.both, "value": test.both + test.values} {
				err := map[string]func(string, string, int) error{"text": CheckText, "value": CheckValue}[check]("note", test.text, 10)
				if want == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorContains(t, err, "note: "+want)
				var input *InputError
				require.True(t, errors.As(err, &input))
				require.Empty(t, input.Value)
			}
		})
	}
}
