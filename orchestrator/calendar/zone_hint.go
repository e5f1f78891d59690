package calendar

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// fixed are the names of IANA for a fixed offset; anOffset is how people write one.
var (
	fixed    = regexp.MustCompile(`^(Etc/)?(GMT|UTC)[+-]?[0-9]+$`)
	anOffset = regexp.MustCompile(`^(?i:etc/)?(?i:GMT|UTC|Z)? ?([+-])([0-9]{1,2}):?([0-9]{2})?$`)
)

// zoneHint says what to write for a name that other systems have and IANA has not, or
// that is an offset; "" where it knows nothing.
func zoneHint(zone string) string {
	if found := anOffset.FindStringSubmatch(zone); found != nil {
		return offsetHint(found[1], found[2], found[3])
	}
	places := elsewhere[strings.ToUpper(zone)]
	if places == "" {
		return ""
	}
	names := strings.Fields(places)
	for i, name := range names {
		names[i] = strconv.Quote(name)
	}
	if len(names) == 1 {
		return fmt.Sprintf("write the IANA name (did you mean %s?)", names[0])
	}
	return fmt.Sprintf("it means several zones: write the IANA name (did you mean %s or %s?)", strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}

// offsetHint says which zone has an offset: in the names of Etc the sign is that of
// POSIX, which counts west of Greenwich as plus.
func offsetHint(sign, hours, minutes string) string {
	const place = `write the place, as in "Europe/Berlin", whose summer time counts too`
	n, err := strconv.Atoi(hours)
	turned := map[string]string{"+": "-", "-": "+"}[sign]
	name := fmt.Sprintf("Etc/GMT%s%d", turned, n)
	switch {
	case err != nil || strings.Trim(minutes, "0") != "" || n > 0 && !zoneNames()[name]:
		return "an offset is no zone: " + place
	case n == 0:
		return `an offset is no zone: write "UTC"`
	}
	return fmt.Sprintf("UTC%s%d is %s (the sign is turned round in these names), without summer time: better %s", sign, n, name, place)
}

// elsewhere are names of zones that are not IANA's, in capitals: abbreviations, and those
// of Windows that are met most (after the table windowsZones of the CLDR).
var elsewhere = func() map[string]string {
	names := map[string]string{}
	for line := range strings.Lines(foreignZones) {
		name, places, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if ok {
			names[strings.ToUpper(name)] = places
		}
	}
	return names
}()

const foreignZones = `
CEST = Europe/Paris
MEZ = Europe/Berlin
MESZ = Europe/Berlin
EEST = Europe/Athens
WEST = Europe/Lisbon
BST = Europe/London
IST = Asia/Kolkata Europe/Dublin Asia/Jerusalem
MSK = Europe/Moscow
EDT = America/New_York
ET = America/New_York
CDT = America/Chicago
CST = America/Chicago Asia/Shanghai America/Havana
CT = America/Chicago
MDT = America/Denver
MT = America/Denver
PDT = America/Los_Angeles
PST = America/Los_Angeles
PT = America/Los_Angeles
AKST = America/Anchorage
AKDT = America/Anchorage
BRT = America/Sao_Paulo
ART = America/Argentina/Buenos_Aires
JST = Asia/Tokyo
KST = Asia/Seoul
HKT = Asia/Hong_Kong
SGT = Asia/Singapore
GST = Asia/Dubai
PKT = Asia/Karachi
AEST = Australia/Sydney Australia/Brisbane
AEDT = Australia/Sydney
ACST = Australia/Adelaide Australia/Darwin
AWST = Australia/Perth
NZST = Pacific/Auckland
NZDT = Pacific/Auckland
SAST = Africa/Johannesburg
EAT = Africa/Nairobi
WAT = Africa/Lagos
CAT = Africa/Maputo
AUS Eastern Standard Time = Australia/Sydney
Arab Standard Time = Asia/Riyadh
Arabian Standard Time = Asia/Dubai
Argentina Standard Time = America/Buenos_Aires
Atlantic Standard Time = America/Halifax
Canada Central Standard Time = America/Regina
Cen. Australia Standard Time = Australia/Adelaide
Central America Standard Time = America/Guatemala
Central Europe Standard Time = Europe/Budapest
Central European Standard Time = Europe/Warsaw
Central Standard Time = America/Chicago
Central Standard Time (Mexico) = America/Mexico_City
China Standard Time = Asia/Shanghai
E. Africa Standard Time = Africa/Nairobi
E. Australia Standard Time = Australia/Brisbane
E. Europe Standard Time = Europe/Chisinau
E. South America Standard Time = America/Sao_Paulo
Eastern Standard Time = America/New_York
Egypt Standard Time = Africa/Cairo
FLE Standard Time = Europe/Kiev
GMT Standard Time = Europe/London
GTB Standard Time = Europe/Bucharest
Greenwich Standard Time = Atlantic/Reykjavik
Hawaiian Standard Time = Pacific/Honolulu
India Standard Time = Asia/Kolkata
Israel Standard Time = Asia/Jerusalem
Korea Standard Time = Asia/Seoul
Morocco Standard Time = Africa/Casablanca
Mountain Standard Time = America/Denver
New Zealand Standard Time = Pacific/Auckland
Newfoundland Standard Time = America/St_Johns
Pacific SA Standard Time = America/Santiago
Pacific Standard Time = America/Los_Angeles
Romance Standard Time = Europe/Paris
Russian Standard Time = Europe/Moscow
SA Pacific Standard Time = America/Bogota
SE Asia Standard Time = Asia/Bangkok
Singapore Standard Time = Asia/Singapore
South Africa Standard Time = Africa/Johannesburg
Taipei Standard Time = Asia/Taipei
Tokyo Standard Time = Asia/Tokyo
Turkey Standard Time = Europe/Istanbul
US Eastern Standard Time = America/Indianapolis
US Mountain Standard Time = America/Phoenix
W. Australia Standard Time = Australia/Perth
W. Central Africa Standard Time = Africa/Lagos
W. Europe Standard Time = Europe/Berlin
West Asia Standard Time = Asia/Tashkent
`
