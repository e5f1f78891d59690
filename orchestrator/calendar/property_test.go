package calendar_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/orchestrator/calendar"
)

// spec is a random schedule that knows what it means without any parser: the
// values of each field, and whether the field was written as *.
type spec struct {
	minute, hour, day, month, weekday values
}

type values struct {
	text string
	set  []int
	star bool // begins with *
	any  bool // stands for every value
}

func (s spec) String() string {
	return strings.Join([]string{s.minute.text, s.hour.text, s.day.text, s.month.text, s.weekday.text}, " ")
}

// matches tells whether a clock on the wall that shows this matches the spec.
func (s spec) matches(wall time.Time) bool {
	day, weekday := slices.Contains(s.day.set, wall.Day()), slices.Contains(s.weekday.set, int(wall.Weekday()))
	dayMatches := day && weekday
	if !s.day.any && !s.weekday.any {
		dayMatches = day || weekday
	}
	return dayMatches && slices.Contains(s.month.set, int(wall.Month())) &&
		slices.Contains(s.hour.set, wall.Hour()) && slices.Contains(s.minute.set, wall.Minute())
}

func drawValues(t *rapid.T, name string, low, high int) values {
	switch rapid.IntRange(0, 3).Draw(t, name+" shape") {
	case 0:
		return values{text: "*", set: steps(low, high, 1), star: true, any: true}
	case 1:
		step := rapid.IntRange(1, high-low).Draw(t, name+" step")
		return values{text: fmt.Sprintf("*/%d", step), set: steps(low, high, step), star: true, any: step == 1}
	case 2:
		first := rapid.IntRange(low, high-1).Draw(t, name+" first")
		last := rapid.IntRange(first+1, high).Draw(t, name+" last")
		step := rapid.IntRange(1, last-first).Draw(t, name+" step")
		return values{text: fmt.Sprintf("%d-%d/%d", first, last, step), set: steps(first, last, step)}
	default:
		set := rapid.SliceOfNDistinct(rapid.IntRange(low, high), 1, 4, rapid.ID).Draw(t, name+" list")
		return values{text: strings.Trim(strings.ReplaceAll(fmt.Sprint(set), " ", ","), "[]"), set: set}
	}
}

func steps(low, high, step int) []int {
	set := []int(nil)
	for n := low; n <= high; n += step {
		set = append(set, n)
	}
	return set
}

func drawSpec(t *rapid.T) spec {
	return spec{
		minute: drawValues(t, "minute", 0, 59), hour: drawValues(t, "hour", 0, 23),
		day: drawValues(t, "day", 1, 31), month: drawValues(t, "month", 1, 12),
		weekday: drawValues(t, "weekday", 0, 6),
	}
}

// TestNextMatchesAWalkThroughTheMinutes compares every fire of three days, with
// preference round a change of the clocks, with what a minute by minute walk
// along the real time line finds.
func TestNextMatchesAWalkThroughTheMinutes(t *testing.T) {
	t.Parallel()
	zones := distinctZones(t)
	rapid.Check(t, func(rt *rapid.T) {
		want, zone := drawSpec(rt), rapid.SampledFrom(zones).Draw(rt, "zone")
		gap := rapid.SampledFrom([]calendar.Gap{"", calendar.GapNext, calendar.GapSkip}).Draw(rt, "gap")
		repeat := rapid.SampledFrom([]calendar.Repeat{"", calendar.RepeatFirst, calendar.RepeatLast, calendar.RepeatBoth}).Draw(rt, "repeat")
		s, err := calendar.New(calendar.Spec{Cron: want.String(), Zone: zone, Gap: gap, Repeat: repeat})
		if err != nil {
			require.ErrorContains(rt, err, "never fires")
			return
		}
		change := rapid.SampledFrom(changes(t, zone)).Draw(rt, "change")
		hours := time.Duration(rapid.IntRange(-60, 2).Draw(rt, "hours")) * time.Hour
		start := change.Add(hours).Truncate(time.Minute).In(s.Next(change).Location())
		end := start.Add(72 * time.Hour)

		last := start
		fires := walk(want, start, end, gap, repeat)
		if len(fires) > 0 {
			last := fires[len(fires)-1]
			require.Equal(rt, len(fires), s.Count(start, last))
			n := rapid.IntRange(1, len(fires)).Draw(rt, "n")
			require.Equal(rt, fmt.Sprint(fires[len(fires)-n:]), fmt.Sprint(s.Last(start, last, n)))
		}
		for _, fire := range fires {
			next := s.Next(last)
			require.Equal(rt, fire.String(), next.String())
			last = next
		}
		require.False(rt, s.Next(last).Before(end), "a fire too many after %s", last)
	})
}

// walk returns the fires after start and before end, which are whole minutes.
func walk(s spec, start, end time.Time, gap calendar.Gap, repeat calendar.Repeat) []time.Time {
	elapsed := s.minute.star || s.hour.star
	if gap == "" {
		gap = map[bool]calendar.Gap{true: calendar.GapSkip, false: calendar.GapNext}[elapsed]
	}
	if repeat == "" {
		repeat = map[bool]calendar.Repeat{true: calendar.RepeatBoth, false: calendar.RepeatFirst}[elapsed]
	}
	wallOf := func(now time.Time) time.Time {
		_, offset := now.Zone()
		return now.UTC().Add(time.Duration(offset) * time.Second)
	}
	first, last := map[int64]time.Time{}, map[int64]time.Time{}
	for now := start.Add(-27 * time.Hour); now.Before(end.Add(27 * time.Hour)); now = now.Add(time.Minute) {
		minute := wallOf(now).Unix()
		if _, ok := first[minute]; !ok {
			first[minute] = now
		}
		last[minute] = now
	}
	fires, previous := []time.Time(nil), time.Time{}
	for now := start.Add(-time.Minute); now.Before(end); now = now.Add(time.Minute) {
		wall := wallOf(now)
		fire := s.matches(wall) && (repeat == calendar.RepeatBoth || repeat == calendar.RepeatFirst && first[wall.Unix()].Equal(now) || repeat == calendar.RepeatLast && last[wall.Unix()].Equal(now))
		for skipped := previous.Add(time.Minute); gap == calendar.GapNext && !previous.IsZero() && skipped.Before(wall); skipped = skipped.Add(time.Minute) {
			fire = fire || s.matches(skipped) && first[skipped.Unix()].IsZero()
		}
		if fire && now.After(start) {
			fires = append(fires, now)
		}
		previous = wall
	}
	return fires
}

// TestNextIsAfterAndMonotone: any expression, any zone, any instant of 400
// years: the next fire is later, and no fire lies between.
func TestNextIsAfterAndMonotone(t *testing.T) {
	t.Parallel()
	zones := allZones(t)
	rapid.Check(t, func(rt *rapid.T) {
		s, err := calendar.Parse(drawSpec(rt).String(), rapid.SampledFrom(zones).Draw(rt, "zone"))
		if err != nil {
			return
		}
		after := time.Unix(rapid.Int64Range(-4e9, 8e9).Draw(rt, "after"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns"))
		next := s.Next(after)
		require.True(rt, next.After(after), "%s is not after %s", next, after)
		require.Zero(rt, next.Nanosecond())
		between := after.Add(time.Duration(rapid.Float64Range(0, 0.999).Draw(rt, "part") * float64(next.Sub(after))))
		require.Equal(rt, next, s.Next(between))
	})
}
