package calendar_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// refusedLines are those of testdata/cron-lines.tsv that are no expressions here, and
// what is said of them.
var refusedLines = map[string]string{
	"0 0 31 2 *":         `never fires: February has no day 31`,
	"0 0 L * *":          `cron day of month "L": want 1-31: L, W and # are not supported: for the last day write 28-31 and let the job look whether tomorrow is the 1st`,
	"H 2 * * *":          `cron minute "H": want 0-59: H is Jenkins' own: choose a number, and spread many schedules with --spread`,
	"0/5 * * * *":        `cron minute "0/5": a step needs * or a range before it: write */5`,
	"*/5 22-6 * * *":     `cron hour "22-6": the range 22-6 runs backwards: write 22-23,0-6`,
	"0 22-6 * * mon-fri": `cron hour "22-6": the range 22-6 runs backwards: write 22-23,0-6`,
	"0,30 22-6 * * *":    `cron hour "22-6": the range 22-6 runs backwards: write 22-23,0-6`,
	"0 0 8 * * Mon-Fri":  `cron expression "0 0 8 * * Mon-Fri" has 6 fields, want 5: minute, hour, day of month, month, weekday: leave the seconds out: write "0 8 * * Mon-Fri"`,
	"0 12 ? * MON-FRI *": `has 6 fields, want 5: minute, hour, day of month, month, weekday: leave the year out, and for any value write *: write "0 12 * * MON-FRI"`,
	"0 0 * * ? *":        `leave the year out, and for any value write *: write "0 0 * * *"`,
	"0 0 0 ? * MON":      `leave the seconds out, and for any value write *: write "0 0 * * MON"`,
	"@once":              `cron expression "@once": a schedule repeats: for one time ask for one job that runs then (headgate job enqueue --run-at)`,
	"@reboot":            `cron expression "@reboot": nothing reboots here`,
}

// Each line of public crontabs, workflows and manifests fires when two other
// implementations say, over both changes of its zone's clocks, or is refused with the
// field that is wrong. testdata/cron-lines.mjs says where the times come from.
func TestRealCronLines(t *testing.T) {
	t.Parallel()
	lines := rows(t, "cron-lines.tsv", 3)
	require.Len(t, lines, 67)
	zones := map[string]string{}
	for _, row := range lines {
		line, zone, source := row[0], row[1], row[2]
		zones[line+"\t"+zone] = source
		s, err := calendar.Parse(line, zone)
		if want, ok := refusedLines[strings.TrimSpace(line)]; ok {
			require.ErrorContains(t, err, want, source)
			continue
		}
		require.NoError(t, err, "%q (%s)", line, source)
		require.NotEmpty(t, s.Words())
	}
	compared, differ, times := map[string]bool{}, map[string]bool{}, 0
	for _, row := range rows(t, "cron-lines-expected.tsv", 5) {
		line, zone, from, whose, fires := row[0], row[1], row[2], row[3], row[4]
		require.Contains(t, zones, line+"\t"+zone)
		if refusedLines[strings.TrimSpace(line)] != "" {
			continue
		}
		if whose == "cron-parser" {
			differ[line+" "+zone] = true
			continue // croner's line for the same hour follows
		}
		s, err := calendar.Parse(line, zone)
		require.NoError(t, err)
		at, err := time.Parse(time.RFC3339, from)
		require.NoError(t, err)
		for _, want := range strings.Fields(fires) {
			at = s.Next(at)
			require.Equal(t, want, at.UTC().Format(time.RFC3339), "%q in %s after %s", line, zone, from)
			times++
		}
		compared[line+"\t"+zone] = true
	}
	require.Len(t, compared, 67-len(refusedLines), "every line is either compared or refused")
	require.Equal(t, otherwise, differ)
	require.Greater(t, times, 850)
}

// otherwise are the lines that cron-parser fires otherwise than croner and this package,
// once each in the hour of a jump. It moves a time that is jumped over by the length of
// the jump, and not to its end; it moves a time of */2 hours too, where we leave it out;
// it takes the second of two midnights; and it takes Lord Howe's half hour for a whole.
var otherwise = map[string]bool{
	"57 0 * * 0 America/Santiago": true, "5 0 * * * America/Asuncion": true,
	"0 */12 * * * Africa/Cairo": true, "0 */2 * * SUN America/Havana": true,
	"@daily America/Havana": true, "*/5 * * * * Australia/Lord_Howe": true,
}

// rows reads a table of tab-separated columns; # begins a comment.
func rows(t *testing.T, name string, columns int) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		row := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		require.Len(t, row, columns, line)
		all = append(all, row)
	}
	return all
}

// Sunday is 0 and 7, and SUN at the end of a range is 7.
func TestSundayIsSevenToo(t *testing.T) {
	t.Parallel()
	for written, means := range map[string]string{
		"7": "0", "1-7": "0-6", "0-7": "0-6", "5-7": "0,5,6", "FRI-SUN": "0,5,6", "mon-sun": "0-6", "6-7": "0,6", "7,1": "0,1", "0,7": "0", "7-7": "0",
		"1-7/2": "0,1,3,5", "2-7/5": "0,2", "0-7/7": "0", "SUN": "0", "sun-tue": "0-2", "SUN-SUN": "0", "SUN-SAT": "0-6", "MON-7": "0-6", "1-SUN": "0-6",
	} {
		got, err := calendar.Parse("0 9 * * "+written, "Europe/Berlin")
		require.NoError(t, err, written)
		want, err := calendar.Parse("0 9 * * "+means, "Europe/Berlin")
		require.NoError(t, err, means)
		at, other := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		for range 20 {
			at, other = got.Next(at), want.Next(other)
			require.Equal(t, other, at, written)
		}
		require.Equal(t, want.Words(), got.Words(), written)
		require.Equal(t, "0 9 * * "+written, got.Expr(), "it stays as it was written")
	}
	for written, want := range map[string]string{
		"8":       `cron weekday "8": want 0-7 or SUN-SAT`,
		"7-1":     `cron weekday "7-1": the range 7-1 runs backwards: write 0-1`,
		"FRI-MON": `cron weekday "FRI-MON": the range FRI-MON runs backwards: write FRI-SUN,MON`,
		"5-1":     `cron weekday "5-1": the range 5-1 runs backwards: write 5-7,1`,
		"SAT-TUE": `write SAT-SUN,MON-TUE`,
		"5-1/2":   `write 5,0`,
		"6-0":     `write 6-7`,
		"7-0":     `write 0`,
	} {
		_, err := calendar.Parse("0 9 * * "+written, "UTC")
		require.ErrorContains(t, err, want, written)
	}
	w, err := calendar.ParseWindow("MON-SUN 22:00-04:00")
	require.NoError(t, err)
	for day := range 7 {
		require.True(t, w.Holds(time.Date(2026, 3, 1+day, 23, 0, 0, 0, time.UTC)), day)
	}
}

// A day that not every month or year has is worded so.
func TestRareDaysAreWordedTruly(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"0 0 29 2 *":     "in leap years on 29 February at 00:00 (UTC)",
		"0 0 28 2 *":     "every year on 28 February at 00:00 (UTC)",
		"0 0 31 * *":     "on day 31, where there is one, of every month at 00:00 (UTC)",
		"0 0 30 1,2 *":   "on day 30, where there is one, of January and February at 00:00 (UTC)",
		"0 0 31 1,3 *":   "on day 31 of January and March at 00:00 (UTC)",
		"0 0 28 * *":     "on day 28 of every month at 00:00 (UTC)",
		"0 21 28-31 * *": "on days 28 to 31 of every month at 21:00 (UTC)",
	} {
		s, err := calendar.Parse(expr, "UTC")
		require.NoError(t, err)
		require.Equal(t, want, s.Words(), expr)
	}
}
