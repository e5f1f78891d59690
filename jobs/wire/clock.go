package wire

import "time"

// ClockSkew is by how much the database's clock is ahead of this process's
// (negative: behind), given what it said and this process's time before the
// question and after the answer. It is 0 when the answer lies between the two.
func ClockSkew(database, before, after time.Time) time.Duration {
	// The monotonic reading must not answer for a wall clock that was set.
	database, before, after = database.Round(0), before.Round(0), after.Round(0)
	switch {
	case database.After(after):
		return database.Sub(after)
	case database.Before(before):
		return database.Sub(before)
	}
	return 0
}
