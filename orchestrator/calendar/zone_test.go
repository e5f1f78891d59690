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

// A name of a fixed offset is never suggested by likeness: its sign is turned round.
func TestAnOffsetIsAnsweredWithItsZone(t *testing.T) {
	t.Parallel()
	for zone, want := range map[string]string{
		"GMT+3":      `unknown IANA time zone "GMT+3": UTC+3 is Etc/GMT-3 (the sign is turned round in these names), without summer time: better write the place, as in "Europe/Berlin", whose summer time counts too`,
		"UTC-05:00":  `UTC-5 is Etc/GMT+5`,
		"gmt+03":     `UTC+3 is Etc/GMT-3`,
		"+0300":      `UTC+3 is Etc/GMT-3`,
		"UTC+14":     `UTC+14 is Etc/GMT-14`,
		"UTC+15":     `an offset is no zone: write the place`,
		"GMT-13":     `an offset is no zone: write the place`,
		"+05:30":     `an offset is no zone: write the place`,
		"UTC+5:30":   `an offset is no zone: write the place`,
		"UTC+00:00":  `an offset is no zone: write "UTC"`,
		"Etc/GMT-15": `an offset is no zone: write the place`,
		"Etc/UTC+3":  `UTC+3 is Etc/GMT-3`,
	} {
		_, err := calendar.CheckZone(zone)
		require.ErrorContains(t, err, want, zone)
		require.NotContains(t, err.Error(), "did you mean", zone)
	}
	for _, zone := range []string{"GMT3", "GMT+", "Etc/GMT+33", "UTC+3x", "Etc/GTM+3", "GMT+O3"} {
		_, err := calendar.CheckZone(zone)
		require.Error(t, err)
		require.NotRegexp(t, `did you mean "(Etc/)?GMT[+-]?[0-9]`, err.Error(), zone)
	}
	for _, zone := range []string{"Etc/GMT+3", "GMT", "GMT0", "GMT+0"} {
		_, err := calendar.CheckZone(zone)
		require.NoError(t, err, "it is IANA's")
	}
}

func TestZonesOfOtherSystemsHaveAHint(t *testing.T) {
	t.Parallel()
	for zone, want := range map[string]string{
		"W. Europe Standard Time": `write the IANA name (did you mean "Europe/Berlin"?)`,
		"eastern standard time":   `did you mean "America/New_York"?`,
		"PST":                     `did you mean "America/Los_Angeles"?`,
		"IST":                     `it means several zones: write the IANA name (did you mean "Asia/Kolkata", "Europe/Dublin" or "Asia/Jerusalem"?)`,
		"CEST":                    `did you mean "Europe/Paris"?`,
	} {
		_, err := calendar.CheckZone(zone)
		require.ErrorContains(t, err, want, zone)
	}
	require.Greater(t, len(calendar.ForeignZones()), 80)
	for name, places := range calendar.ForeignZones() {
		_, err := calendar.CheckZone(name)
		require.Error(t, err, "%s is no name of IANA's", name)
		for _, place := range strings.Fields(places) {
			_, err := calendar.CheckZone(place)
			require.NoError(t, err, "the hint for %s can be followed", name)
		}
	}
}
