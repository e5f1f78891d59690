package jobs

import (
	"encoding/json"
	"fmt"
	"time"
)

// Time is a moment as a timestamptz column holds it. Any client of the queue may
// write there what time.Time has no word for: infinity. Then Time is [Infinity] or
// [NegativeInfinity], which lie beyond all that Postgres can hold, so that After and
// Before answer as Postgres does. Years outside 0 to 9999 are kept as they are.
//
// In JSON it is RFC 3339, or the words infinity and -infinity.
type Time struct{ time.Time }

// Infinity and NegativeInfinity stand for Postgres' infinite times.
var (
	Infinity         = time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)
	NegativeInfinity = time.Date(-5_000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Infinite says that the time is one of the two.
func (t Time) Infinite() bool { return t.Equal(Infinity) || t.Equal(NegativeInfinity) }

// Usual returns the time where RFC 3339 has a form for it, else nil: for what can
// only take such times.
func (t Time) Usual() *time.Time {
	if year := t.UTC().Year(); year < 0 || year > 9999 {
		return nil
	}
	return &t.Time
}

// In is the time with another zone.
func (t Time) In(zone *time.Location) Time {
	if t.Infinite() {
		return t
	}
	return Time{t.Time.In(zone)}
}

// UTC is the time in UTC.
func (t Time) UTC() Time { return t.In(time.UTC) }

// Format is time.Time's, or infinity, or -infinity.
func (t Time) Format(layout string) string {
	switch {
	case t.Equal(Infinity):
		return "infinity"
	case t.Equal(NegativeInfinity):
		return "-infinity"
	}
	return t.Time.Format(layout)
}

// String is the time in RFC 3339, or infinity, or -infinity.
func (t Time) String() string { return t.Format(time.RFC3339Nano) }

// MarshalJSON writes String as a JSON string.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads what MarshalJSON writes, for years of four digits.
func (t *Time) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case `"infinity"`:
		t.Time = Infinity
		return nil
	case `"-infinity"`:
		t.Time = NegativeInfinity
		return nil
	}
	return t.Time.UnmarshalJSON(raw)
}

// Scan makes Time a sql.Scanner. pgx hands over infinite times as words.
func (t *Time) Scan(value any) error {
	switch v := value.(type) {
	case time.Time:
		t.Time = v.UTC()
		return nil
	case string:
		return t.UnmarshalJSON([]byte(`"` + v + `"`))
	}
	return fmt.Errorf("cannot scan a %T into a time", value)
}
