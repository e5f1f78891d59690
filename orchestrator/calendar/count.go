package calendar

import "time"

// Count returns how many occurrences lie after one time and up to another. Whole
// days without a change of the clocks near are not walked through, so that a month
// of a minutely schedule takes some milliseconds.
func (s *Schedule) Count(after, upto time.Time) int {
	if !s.start.IsZero() && after.Before(s.start) {
		after = s.start.Add(-time.Nanosecond)
	}
	if !s.end.IsZero() && upto.After(s.end) {
		upto = s.end
	}
	if !upto.After(after) {
		return 0
	}
	bare := len(s.exclude) == 0 && len(s.windows) == 0
	if s.every > 0 && bare {
		step := int64(s.every / time.Second)
		first := nextMultiple(after, s.anchor, s.every).Unix()
		if first > upto.Unix() {
			return 0
		}
		return int((upto.Unix()-first)/step) + 1
	}
	count, at := 0, after
	for {
		if s.every == 0 && bare {
			var days int
			if days, at = s.countDays(at, upto); days > 0 {
				count += days
			}
		}
		next := s.Next(at)
		if next.IsZero() || next.After(upto) {
			return count
		}
		count, at = count+1, next
	}
}

// countDays counts whole days from a time on, as long as the clocks of the zone
// are steady around them and they end before upto, and returns where it stopped:
// the last instant of the last day. It counts nothing unless at is the end of a
// day's fires, that is, the next one is on another day.
func (s *Schedule) countDays(at, upto time.Time) (count int, end time.Time) {
	local := at.In(s.zone)
	start, change := bounds(local)
	wall := showing(local)
	day := wall.Truncate(24*time.Hour).AddDate(0, 0, 1)
	if s.nextWall(wall).Before(day) {
		return 0, at
	}
	first := day.Add(-offset(local))
	if !start.IsZero() && first.Sub(start) < aDayAndMore {
		return 0, at
	}
	a := s.ofDay()
	for end = at; ; day = day.AddDate(0, 0, 1) {
		next := day.AddDate(0, 0, 1).Add(-offset(local))
		if next.After(upto) || !change.IsZero() && change.Sub(next) < aDayAndMore {
			return count, end
		}
		if s.namesDay(day) {
			count += a
		}
		end = next.Add(-time.Nanosecond)
	}
}

// Last returns the last n occurrences after one time and up to another, in
// order.
func (s *Schedule) Last(after, upto time.Time, n int) []time.Time {
	if n <= 0 {
		return nil
	}
	for width := 10 * time.Minute; ; width *= 4 {
		from, whole := upto.Add(-width), false
		if from.Before(after) || width > 50*365*24*time.Hour {
			from, whole = after, true
		}
		var list []time.Time
		for at := s.Next(from); !at.IsZero() && !at.After(upto); at = s.Next(at) {
			if list = append(list, at); len(list) > 2*n+64 {
				list = append(list[:0], list[len(list)-n:]...)
			}
		}
		if len(list) >= n || whole {
			return list[max(0, len(list)-n):]
		}
	}
}
