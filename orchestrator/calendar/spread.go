package calendar

import (
	"fmt"
	"hash/fnv"
	"time"
)

// MaxSpread bounds a spread.
const MaxSpread = 24 * time.Hour

// CheckSpread refuses a spread that is no whole number of seconds up to MaxSpread.
func CheckSpread(spread time.Duration) error {
	if spread < 0 || spread > MaxSpread || spread%time.Second != 0 {
		return fmt.Errorf("spread %s: give whole seconds, 0s (none) to %s", spread, MaxSpread)
	}
	return nil
}

// Place turns names into a place in a window, 0 to 1 (excluded), the same for
// ever: a stable hash.
func Place(names ...string) float64 {
	sum := fnv.New64a()
	for _, name := range names {
		_, _ = sum.Write(append([]byte(name), 0)) // a hash takes all
	}
	mixed := sum.Sum64() // neighbouring names differ in low bits: mix them upwards (splitmix64)
	mixed = (mixed ^ mixed>>30) * 0xbf58476d1ce4e5b9
	mixed = (mixed ^ mixed>>27) * 0x94d049bb133111eb
	return float64((mixed^mixed>>31)>>11) / (1 << 53)
}

// Delay is how long after its time an occurrence at such a place starts: whole
// seconds below spread.
func Delay(place float64, spread time.Duration) time.Duration {
	return time.Duration(place*float64(spread/time.Second)) * time.Second
}
