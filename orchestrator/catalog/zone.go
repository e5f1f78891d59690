package catalog

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// areas are the first parts of the zone names that mean a place (and Etc).
var areas = []string{
	"Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific", "Etc",
	"Brazil", "Canada", "Chile", "Mexico", "US",
}

// checkZone accepts UTC and Area/City names of the IANA list. "Local" differs
// from machine to machine; words such as EST5EDT or Japan leave open which
// rules are meant; both are refused, and a path never reaches the file system.
func checkZone(zone string) error {
	const example = `write an IANA name such as "Europe/Berlin" or "UTC"`
	if zone == "UTC" || isZone(zone) {
		return nil
	}
	if near := nearZone(zone); near != "" {
		return inputf("timezone", "unknown IANA zone %s (did you mean %q?)", quote(zone), near)
	}
	return inputf("timezone", "unknown IANA zone %s: %s", quote(zone), example)
}

// zones remembers the names that were found good, of which there are some
// hundred; looking one up reads a file.
var zones sync.Map

func isZone(zone string) bool {
	if _, ok := zones.Load(zone); ok {
		return true
	}
	area, _, ok := strings.Cut(zone, "/")
	if !ok || !slices.Contains(areas, area) || len(zone) > 64 || strings.ContainsAny(zone, ".\\\x00") {
		return false
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return false
	}
	zones.Store(zone, true)
	return true
}

// nearZone finds the zone whose city was written, alone, in another case or
// under another area.
func nearZone(zone string) string {
	if strings.EqualFold(zone, "utc") {
		return "UTC"
	}
	city := titled(zone[strings.LastIndexByte(zone, '/')+1:])
	for _, area := range areas {
		if near := area + "/" + city; city != "" && isZone(near) {
			return near
		}
	}
	return ""
}

// titled writes new york and NEW_YORK as New_York.
func titled(city string) string {
	words := strings.FieldsFunc(strings.ToLower(city), func(r rune) bool { return r == '_' || r == ' ' })
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "_")
}
