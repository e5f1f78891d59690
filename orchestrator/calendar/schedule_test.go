package calendar_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

func parse(t testing.TB, expr, zone string) *calendar.Schedule {
	t.Helper()
	s, err := calendar.Parse(expr, zone)
	require.NoError(t, err)
	return s
}

// at reads a wall time in a zone; for one that comes twice, say the offset.
func at(t testing.TB, text, zone string) time.Time {
	t.Helper()
	location, err := time.LoadLocation(zone)
	require.NoError(t, err)
	if when, err := time.Parse("2006-01-02 15:04:05 -07:00", text); err == nil {
		return when.In(location)
	}
	when, err := time.ParseInLocation("2006-01-02 15:04:05", text, location)
	require.NoError(t, err)
	return when
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, zone, after, want string }{
		{"0 3 * * *", "UTC", "2026-11-22 03:00:00", "2026-11-23 03:00:00"},
		{"0 3 * * *", "UTC", "2026-11-22 02:59:59", "2026-11-22 03:00:00"},
		{"  0\t3 *  * * ", "UTC", "2026-11-22 02:59:59", "2026-11-22 03:00:00"},
		{"*/15 * * * *", "UTC", "2026-11-22 03:50:00", "2026-11-22 04:00:00"},
		{"10-50/20 9-17 * * mon-FRI", "UTC", "2026-11-20 17:50:00", "2026-11-23 09:10:00"},
		{"05 00 1,15 JAN,jul *", "UTC", "2026-11-22 00:00:00", "2027-01-01 00:05:00"},
		{"0 0 29 2 *", "UTC", "2026-11-22 00:00:00", "2028-02-29 00:00:00"},
		{"0 0 29 2 *", "UTC", "2096-02-29 00:00:00", "2104-02-29 00:00:00"},
		{"0 0 31 1-12/2 *", "UTC", "2026-01-31 00:00:00", "2026-03-31 00:00:00"},
		{"0 0 1 1 MON", "UTC", "2026-01-01 00:00:00", "2026-01-05 00:00:00"},
		{"@hourly", "UTC", "2026-11-22 03:50:00", "2026-11-22 04:00:00"},
		{"@daily", "Asia/Kathmandu", "2026-11-22 03:50:00", "2026-11-23 00:00:00"},
		{"@midnight", "UTC", "2026-11-22 03:50:00", "2026-11-23 00:00:00"},
		{"@weekly", "UTC", "2026-11-22 03:50:00", "2026-11-29 00:00:00"},
		{"@monthly", "UTC", "2026-11-22 03:50:00", "2026-12-01 00:00:00"},
		{"@yearly", "UTC", "2026-11-22 03:50:00", "2027-01-01 00:00:00"},
		{"@annually", "UTC", "2026-11-22 03:50:00", "2027-01-01 00:00:00"},
		{"@every 10s", "UTC", "2026-11-22 03:50:00", "2026-11-22 03:50:10"},
		{"@every  1h30m", "UTC", "1970-01-01 00:00:00", "1970-01-01 01:30:00"},
		{"@every 1h30m", "UTC", "1969-12-31 23:00:00", "1970-01-01 00:00:00"},
		{"@every 24h", "America/New_York", "2026-11-22 03:50:00", "2026-11-22 19:00:00"},
		{"@every 168h", "UTC", "2026-11-22 03:50:00", "2026-11-26 00:00:00"},
	} {
		next := parse(t, c.expr, c.zone).Next(at(t, c.after, c.zone))
		require.Equal(t, c.want, next.Format("2006-01-02 15:04:05"), "%s in %s after %s", c.expr, c.zone, c.after)
		require.Equal(t, c.zone, next.Location().String())
	}
}

func TestNextIsStrictlyAfterWithinASecond(t *testing.T) {
	t.Parallel()
	fire := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for _, expr := range []string{"0 3 * * *", "* * * * *", "@every 1h"} {
		s := parse(t, expr, "UTC")
		require.Equal(t, fire, s.Next(fire.Add(-time.Nanosecond)), expr)
		require.True(t, s.Next(fire).After(fire.Add(time.Second)), expr)
		require.True(t, s.Next(fire.Add(time.Nanosecond)).After(fire.Add(time.Second)), expr)
	}
}

func TestNextEndsAtTheYear9999(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{"0 0 1 1 *", "* * * * *", "@every 8760h"} {
		s := parse(t, expr, "America/New_York")
		require.True(t, s.Next(at(t, "9999-12-31 23:59:59", "America/New_York")).IsZero(), expr)
		require.True(t, s.Next(time.Unix(1<<60, 0)).IsZero(), expr)
		require.Equal(t, 9998, s.Next(at(t, "9997-12-31 23:59:59", "America/New_York")).Year(), expr)
		require.LessOrEqual(t, s.Next(time.Unix(-1<<60, 0)).Year(), 3, expr)
	}
}

func TestScheduleTellsItsText(t *testing.T) {
	t.Parallel()
	s := parse(t, " 0 3 * * * ", "Europe/Berlin")
	require.Equal(t, "0 3 * * *", s.Expr())
	require.Equal(t, "Europe/Berlin", s.Zone())
	require.Empty(t, s.Warnings())
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	require.Equal(t,
		[]string{"fires on either: on day of month 1, and also on every weekday MON, in month 1; a day need not match both"},
		parse(t, "0 0 1 1 MON", "UTC").Warnings())
	require.Len(t, parse(t, "0 0 */2 * MON", "UTC").Warnings(), 2)
	for expr, want := range map[string]string{
		"*/45 * * * *": "minute */45 fires at minutes 0 and 45 of each hour, not every 45 minutes: they are counted anew with each hour; @every 45m keeps the distance",
		"0 */5 * * *":  "hour */5 fires at hours 0, 5, 10, 15 and 20 of each day, not every 5 hours: they are counted anew with each day; @every 5h keeps the distance",
		"0 0 */15 * *": "day of month */15 fires on days 1, 16 and 31 of each month, not every 15 days: they are counted anew with each month",
		"0 0 1 */5 *":  "month */5 fires in months 1, 6 and 11 of each year, not every 5 months: they are counted anew with each year",
		"0 0 * * */2":  "weekday */2 fires on weekdays 0, 2, 4 and 6 of each week, not every 2 days: they are counted anew with each week",
	} {
		require.Equal(t, []string{want}, parse(t, expr, "UTC").Warnings(), expr)
	}
	for _, expr := range []string{"*/15 * * * *", "*/1 * * * *", "0 */12 * * *", "0 0 1 */3 *", "0-59/45 * * * *", "@every 45m"} {
		require.Empty(t, parse(t, expr, "UTC").Warnings(), expr)
	}
	require.Len(t, parse(t, "0 0 1-31 * MON", "UTC").Warnings(), 1)
	require.Empty(t, parse(t, "0 0 */1 * MON", "UTC").Warnings())
	require.Empty(t, parse(t, "0 0 * * MON", "UTC").Warnings())
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, want string }{
		{"", `cron expression is empty`},
		{"  \t", `cron expression is empty`},
		{"TZ=UTC", `the time zone belongs in the zone field, not in the expression`},
		{"TZ=UTC 0 3 * * *", `the time zone belongs in the zone field`},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", `the time zone belongs in the zone field`},
		{"cron_tz=", `the time zone belongs in the zone field`},

		{"* * 31 2 *", `cron day of month "31" with month "2" never fires: February has no day 31: write a day from 1 to 29, or other months`},
		{"0 0 30 FEB *", `never fires: February has no day 30`},
		{"0 0 31 4 *", `never fires: April has no day 31`},
		{"0 0 31 4,JUN,9-11/2 *", `never fires: April, June, September and November have no day 31`},
		{"0 0 30-31 2 *", `never fires: February has no day 30`},

		{"@every 0s", `cron @every "0s": the interval must be at least 10s`},
		{"@every -1h", `cron @every "-1h": the interval must be at least 10s`},
		{"@every 1ns", `must be at least 10s`},
		{"@every 9.999s", `must be at least 10s`},
		{"@every 10.5s", `must be in whole seconds: write @every 10s`},
		{"@every 1d", `not a duration`},
		{"@every +1h", `not a duration`},
		{"@every", `cron @every "": not a duration`},
		{"@every 99999999999999999999h", `not a duration`},
		{"@Daily", `write it in lower case, @daily`},
		{"@EVERY 5m", `write it in lower case, @every`},
		{"@daily 3", `nothing may follow @daily`},
		{"@reboot", `nothing reboots here`},
		{"@noon", `unknown word: write one of @hourly @daily`},

		{"0 3 * *", `has 4 fields, want 5`},
		{"0 0 3 * * *", `has 6 fields, want 5`},
		{"0 0 * * 8", `cron weekday "8": want 0-7 or SUN-SAT`},
		{"0 H(0-7) * * *", `cron hour "H(0-7)": want 0-23: H is Jenkins' own`},
		{"H/15 * * * *", `cron minute "H/15": want 0-59: H is Jenkins' own`},
		{"0~30 * * * *", `cron minute "0~30": want 0-59: ~ is not supported: choose a number`},
		{"0 0 0 1 1 ? 2027", `has 7 fields, want 5: minute, hour, day of month, month, weekday (no seconds, no year)`},
		{"0 0 0 1 1 ? *", `has 7 fields, want 5: minute, hour, day of month, month, weekday: leave the seconds and the year out, and for any value write *: write "0 0 1 1 *"`},
		{"30 0 8 * * MON", `has 6 fields, want 5: minute, hour, day of month, month, weekday (no seconds, no year)`},
		{"0 12 ? * 2-6 *", `leave the year out, and for any value write *; weekdays are 0-7 or SUN-SAT here, and Sunday is 0 or 7`},
		{"0 0 * NOV-FEB *", `the range NOV-FEB runs backwards: write NOV-DEC,JAN-FEB`},
		{"0 0 * * MONDAY", `cron weekday "MONDAY": want 0-7 or SUN-SAT: write MON`},
		{"0 0 * * 5L", `cron weekday "5L": want 0-7 or SUN-SAT: L, W and # are not supported`},
		{"0 0 * * MON#2", `L, W and # are not supported`},
		{"0 0 * * FRIL", `L, W and # are not supported`},
		{"0 0 L * *", `cron day of month "L": want 1-31: L, W and # are not supported`},
		{"0 0 15W * *", `L, W and # are not supported`},
		{"0 0 LW * *", `L, W and # are not supported`},
		{"0 0 ? * *", `cron day of month "?": want 1-31: for any value write *`},
		{"0 0 0 * *", `cron day of month "0": want 1-31`},
		{"0 0 * 13 *", `cron month "13": want 1-12 or JAN-DEC`},
		{"0 0 * JANUARY *", `cron month "JANUARY": want 1-12 or JAN-DEC: write JAN`},
		{"0 24 * * *", `cron hour "24": want 0-23`},
		{"60 * * * *", `cron minute "60": want 0-59`},
		{"0,99 * * * *", `cron minute "99": want 0-59`},
		{"+5 * * * *", `cron minute "+5": want 0-59, without a sign`},
		{"-5 * * * *", `cron minute "-5": want 0-59`},
		{"5- * * * *", `cron minute "5-": want 0-59`},
		{"1-2-3 * * * *", `cron minute "1-2-3": want 0-59`},
		{"005 * * * *", `cron minute "005": want 0-59`},
		{"1.5 * * * *", `cron minute "1.5": want 0-59`},
		{"12345678901234567890 * * * *", `cron minute "12345678901234567890": want 0-59`},
		{strings.Repeat("9", 500) + " * * * *", `cron minute "` + strings.Repeat("9", 40) + `"...: want 0-59`},
		{"*/90 * * * *", `cron minute "*/90": the step must be 1-59`},
		{"*/0 * * * *", `cron minute "*/0": the step must be 1-59`},
		{"*/+5 * * * *", `the step must be 1-59`},
		{"*/5/5 * * * *", `the step must be 1-59`},
		{"* */24 * * *", `cron hour "*/24": the step must be 1-23`},
		{"10-20/11 * * * *", `the step must be 1-10`},
		{"5/15 * * * *", `cron minute "5/15": a step needs * or a range before it: write 5-59/15`},
		{"1,2,,4 * * * *", `cron minute "1,2,,4": empty item in the list`},
		{", * * * *", `empty item in the list`},
		{"*,5 * * * *", `* already means every value`},
		{"30-10 * * * *", `cron minute "30-10": the range 30-10 runs backwards: write 30-59,0-10`},
		{"0 0 * * FRI-MON", `the range FRI-MON runs backwards: write FRI-SUN,MON`},
		{"５ * * * *", `cron expression "\uff15 * * * *": the character '\uff15' is not allowed`},
		{"0 3 * * *\n", `the character '\n' is not allowed`},
		{"0\u00a03 * * *", `the character '\u00a0' is not allowed`},
		{"0 3 * * \x00", `the character '\x00' is not allowed`},
		{strings.Repeat("*", 2000), `is 2000 bytes long, at most 1024 are allowed`},
	} {
		s, err := calendar.Parse(c.expr, "UTC")
		require.ErrorContains(t, err, c.want, "%q", c.expr)
		require.Nil(t, s)
		require.Less(t, len(err.Error()), 300, "%q", c.expr)
	}
}
