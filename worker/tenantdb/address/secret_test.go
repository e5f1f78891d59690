package address

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const planted = "S3cret-planted"

func TestSecret(t *testing.T) {
	t.Parallel()
	s := NewSecret(planted)
	require.Equal(t, planted, s.Reveal())
	require.False(t, s.IsZero())
	require.True(t, s == NewSecret(planted))
	require.False(t, s == NewSecret("other"))

	var zero Secret
	require.True(t, zero.IsZero())
	require.Equal(t, "", zero.Reveal())
	require.True(t, zero == NewSecret(""))
	require.Equal(t, "[redacted]", zero.String())
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	secret := NewSecret(planted)
	a := Address{Host: "h", Database: "d", User: "u", Password: secret}
	for name, value := range map[string]any{
		"secret": secret, "pointer": &secret, "address": a, "address pointer": &a,
		"slice": []Address{a}, "map": map[string]Secret{"k": secret}, "struct": struct{ a, B any }{secret, a},
		"unexported": struct{ s Secret }{secret}, "error": fmt.Errorf("connect to %v with %v: %w", a, secret, errors.New("no")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			for _, verb := range "vsqdxXoObcUeEfFgGtTpw" {
				for _, flags := range []string{"", "+", "#", "-20", "010.3"} {
					fmt.Fprintf(&out, "%"+flags+string(verb)+"\n", value)
				}
			}
			fmt.Fprintln(&out, value)
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "value", value)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "value", value)
			_ = json.NewEncoder(&out).Encode(value)
			_ = xml.NewEncoder(&out).Encode(value)
			assert.Equal(dump{&out}, value, "something else")
			assert.Equal(dump{&out}, []any{value}, []any{"something else"})

			for _, form := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted), fmt.Sprintf("%v", []byte(planted)), fmt.Sprintf("%#v", []byte(planted))} {
				require.NotContains(t, out.String(), form)
			}
		})
	}
}

func TestSecretSaysRedacted(t *testing.T) {
	t.Parallel()
	a := Address{Host: "h", Port: 1, Database: "d", User: "u", Password: NewSecret(planted)}
	require.Equal(t, "[redacted]", fmt.Sprintf("%x", a.Password))
	require.Equal(t, "u@h:1/d", fmt.Sprintf("%+v", a))
	require.Contains(t, fmt.Sprintf("%#v", a), "Password:[redacted]")

	encoded, err := json.Marshal(a)
	require.NoError(t, err)
	require.Contains(t, string(encoded), `"Password":"[redacted]"`)

	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "a", a, "p", a.Password)
	require.Contains(t, out.String(), "a.host=h a.port=1 a.database=d a.user=u a.sslmode=\"\" p=[redacted]")
}

// dump keeps what a failed assertion prints.
type dump struct{ *bytes.Buffer }

func (d dump) Errorf(format string, args ...any) { _, _ = fmt.Fprintf(d, format, args...) }
