//go:build race

package calendar_test

// Nothing here is concurrent but the cache, and the race detector makes every zone
// take half a minute: `make test` walks through all of them without it.
func init() { everyNthZone = 8 }
