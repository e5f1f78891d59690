package address

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestEncodeDecode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := Address{
			Host:     rapid.String().Draw(t, "host"),
			Port:     rapid.IntRange(0, 65535).Draw(t, "port"),
			Database: rapid.String().Draw(t, "database"), User: rapid.String().Draw(t, "user"),
			Password: NewSecret(rapid.String().Draw(t, "password")),
			SSLMode:  rapid.SampledFrom(sslModes).Draw(t, "sslmode"), RootCert: rapid.String().Draw(t, "rootcert"),
			ConnectTimeout:     time.Duration(rapid.IntRange(0, 300_000).Draw(t, "timeout")) * time.Millisecond,
			TargetSessionAttrs: rapid.SampledFrom(sessionAttrs).Draw(t, "session"),
		}
		got, err := Decode(Encode(a))
		require.NoError(t, err)
		require.Equal(t, a, got)
	})
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{
		"", "{}", "null", `{"v":2,"host":"h"}`, `{"v":1,"host":"h","S3cret":1}`, `{"v":1,"password":5}`, `S3cret`, `{"v":1}{"v":1}`, `{"v":1}}`, `{"v":1}]`, `{"v":1} x`,
	} {
		got, err := Decode([]byte(plain))
		require.EqualError(t, err, "the address is in a form that this program does not know; a newer one may have written it", plain)
		require.Zero(t, got)
	}
}
