package calendar_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// allZones are the names that the package embeds.
func allZones(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("zonenames.txt")
	require.NoError(t, err)
	return strings.Fields(string(text))
}

func TestCheckZoneTakesEveryName(t *testing.T) {
	t.Parallel()
	taken := 0
	for _, name := range allZones(t) {
		location, err := calendar.CheckZone(name)
		if err == nil {
			require.Equal(t, name, location.String())
			taken++
		} else {
			require.NotContains(t, name, "/")
		}
		_, err = time.LoadLocation(name)
		require.NoError(t, err)
	}
	require.Equal(t, 586, taken, "597 names but for 11 abbreviations")
}

func TestCheckZoneRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, want string }{
		{"", `time zone is empty: write an IANA name such as "Europe/Berlin"`},
		{"Local", `time zone "Local" differs from machine to machine`},
		{"local", `differs from machine to machine`},
		{"EST5EDT", `unknown IANA time zone "EST5EDT": an abbreviation does not say which summer time rules apply (did you mean "America/New_York"?)`},
		{"CET", `did you mean "Europe/Paris"?`},
		{"Mars/Phobos", `unknown IANA time zone "Mars/Phobos"`},
		{"../../etc/passwd", `unknown IANA time zone "../../etc/passwd"`},
		{"/etc/localtime", `unknown IANA time zone`},
		{"right/UTC", `unknown IANA time zone`},
		{"Factory", `unknown IANA time zone`},
		{"UTC\x00", `unknown IANA time zone "UTC\x00"`},
		{"europe/berlin", `did you mean "Europe/Berlin"?`},
		{"Europe/Berln", `did you mean "Europe/Berlin"?`},
		{"Berlin", `did you mean "Europe/Berlin"?`},
		{"New York", `did you mean "America/New_York"?`},
		{"America/New York", `did you mean "America/New_York"?`},
		{"Kolkata", `did you mean "Asia/Kolkata"?`},
		{"utc", `did you mean "UTC"?`},
		{strings.Repeat("x", 10_000), `xxx"...`},
	} {
		location, err := calendar.CheckZone(c.zone)
		require.ErrorContains(t, err, c.want, "%q", c.zone)
		require.Nil(t, location)
		require.Less(t, len(err.Error()), 300)

		_, err = calendar.Parse("@daily", c.zone)
		require.Error(t, err)
	}
}
