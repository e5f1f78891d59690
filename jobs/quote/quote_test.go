package quote_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs/quote"
)

func TestValue(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"acme":                               `"acme"`,
		"a\x1b[31m":                          `"a\x1b[31m"`,
		strings.Repeat("x", 11):              `"xxxxxxxxxx"…`,
		"xxxxxxxxxü":                         `"xxxxxxxxx"…`,
		"https://a":                          `"https://a"`,
		"a@b.example:80":                     `"a@b.exampl"…`,
		"password":                           `"password"`,
		"app.passwd":                         `"app.passwd"`,
		"postgres://app:s3cret@db/x":         quote.Hidden,
		"a name that is cut app:s3cret@db/x": quote.Hidden,
		"app:s3cret@db":                      quote.Hidden,
		"host=db password = s3cret":          quote.Hidden,
		"postgres://db/x?sslpassword=s3cret": quote.Hidden,
		"PGPASSWORD=s3cret":                  quote.Hidden,
		`{"password": "s3cret"}`:             quote.Hidden,
		"slug;pwd=s3cret":                    quote.Hidden,
	} {
		require.Equal(t, want, quote.Value(value, 10), value)
	}
}

func TestIsAddress(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"postgres://app:s3cret@db/x", "POSTGRES://:s3cret@db", "amqp+tls://u:p@h", "see postgres://app:s3cr@et@db", "postgres://db/x?user=u&password=s3cret", "host=db password=s3cret", "user = u passwd = s"} {
		require.True(t, quote.IsAddress(value), value)
	}
	for _, value := range []string{"acme", "postgres://app@db/x", "postgres://db:5432/x", "https://a/?at=12:00@b", "password=1", "feature.password = true", "a:b@c", "app.password_reset"} {
		require.False(t, quote.IsAddress(value), value)
	}
}

// Whatever an address is made of, no piece of its password is shown, and what is an address is
// hidden.
func TestNoPasswordIsShown(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`[!-~]{8,20}`).Draw(t, "password")
		value := rapid.SampledFrom([]string{"postgres://app:" + password + "@db/x", "host=db user=app password=" + password, password + " password=" + password}).Draw(t, "value")
		most := rapid.IntRange(0, 100).Draw(t, "most")
		require.Equal(t, quote.Hidden, quote.Value(value, most))
		if quote.IsAddress(value) {
			require.True(t, quote.MayHide(value))
		}
	})
}
