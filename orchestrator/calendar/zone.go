package calendar

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the rules of all zones, for machines that have none

	"github.com/agnivade/levenshtein"
)

//go:generate sh -c "unzip -Z1 $(go env GOROOT)/lib/time/zoneinfo.zip | grep -v -e '/$' -e '^Factory$' | LC_ALL=C sort > zonenames.txt"

// zoneText lists the names of the tzdata that this program was made with, one a
// line, sorted by bytes.
//
//go:embed zonenames.txt
var zoneText string

var zoneNames = sync.OnceValue(func() map[string]bool {
	names := make(map[string]bool, 600)
	for name := range strings.Lines(zoneText) {
		names[strings.TrimSuffix(name, "\n")] = true
	}
	return names
})

// abbreviations are names that IANA keeps for old systems only. They are
// refused: EST never has summer time, EST5EDT has, and who writes one of them
// rarely means that difference.
var abbreviations = map[string]string{
	"CET": "Europe/Paris", "EET": "Europe/Athens", "MET": "Europe/Paris", "WET": "Europe/Lisbon",
	"EST": "America/New_York", "EST5EDT": "America/New_York",
	"CST6CDT": "America/Chicago",
	"MST":     "America/Denver", "MST7MDT": "America/Denver",
	"PST8PDT": "America/Los_Angeles",
	"HST":     "Pacific/Honolulu",
}

// CheckZone returns the location of an IANA time zone name such as
// "Europe/Berlin" or "UTC". The empty name, "Local", abbreviations such as EST
// and everything that is not in the list of names is refused, the last with the
// nearest name if there is one. No file is opened for a refused name.
func CheckZone(zone string) (*time.Location, error) {
	const example = `write an IANA name such as "Europe/Berlin" or "UTC"`
	switch {
	case zone == "":
		return nil, fmt.Errorf("time zone is empty: %s", example)
	case strings.EqualFold(zone, "Local"):
		return nil, fmt.Errorf("time zone %s differs from machine to machine: %s", shown(zone), example)
	case abbreviations[zone] != "":
		return nil, fmt.Errorf("unknown IANA time zone %s: an abbreviation does not say which summer time rules apply (did you mean %q?)", shown(zone), abbreviations[zone])
	case !zoneNames()[zone]:
		if hint := zoneHint(zone); hint != "" {
			return nil, fmt.Errorf("unknown IANA time zone %s: %s", shown(zone), hint)
		}
		if near := nearestZone(zone); near != "" {
			return nil, fmt.Errorf("unknown IANA time zone %s (did you mean %q?)", shown(zone), near)
		}
		return nil, fmt.Errorf("unknown IANA time zone %s: %s", shown(zone), example)
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("time zone %s: its rules cannot be read: %w", shown(zone), err)
	}
	return location, nil
}

// nearestZone returns the name that differs least from what was written, in
// letters of either case, or "" if none is near. Names of a fixed offset are near nothing:
// one letter more is another offset. The last part alone counts
// too: "kolkata" is near Asia/Kolkata.
func nearestZone(written string) string {
	if len(written) > 64 {
		return ""
	}
	written = strings.NewReplacer(" ", "_", "\\", "/").Replace(strings.ToLower(written))
	best, least := "", len(written)/3+1
	for line := range strings.Lines(zoneText) {
		name := strings.TrimSuffix(line, "\n")
		lower := strings.ToLower(name)
		distance := min(levenshtein.ComputeDistance(written, lower), levenshtein.ComputeDistance(written, lower[strings.LastIndex(lower, "/")+1:]))
		nearer := distance < least || distance == least && len(name) < len(best)
		if nearer && abbreviations[name] == "" && !fixed.MatchString(name) {
			best, least = name, distance
		}
	}
	return best
}
