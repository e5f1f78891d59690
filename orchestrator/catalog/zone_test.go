package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckZone(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "Europe/Paris", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "US/Eastern"} {
		require.NoError(t, checkZone(zone))
	}
	const example = `: write an IANA name such as "Europe/Berlin" or "UTC"`
	for zone, want := range map[string]string{
		"":                  `timezone: unknown IANA zone ""` + example,
		"Local":             `timezone: unknown IANA zone "Local"` + example,
		"EST5EDT":           `timezone: unknown IANA zone "EST5EDT"` + example,
		"../../etc/passwd":  `timezone: unknown IANA zone "../../etc/passwd"` + example,
		"/etc/localtime":    `timezone: unknown IANA zone "/etc/localtime"` + example,
		"Europe/../UTC":     `timezone: unknown IANA zone "Europe/../UTC"` + example,
		"right/Europe/Oslo": `timezone: unknown IANA zone "right/Europe/Oslo" (did you mean "Europe/Oslo"?)`,
		"Europe":            `timezone: unknown IANA zone "Europe"` + example,
		"Europe/":           `timezone: unknown IANA zone "Europe/"` + example,
		"Paris":             `timezone: unknown IANA zone "Paris" (did you mean "Europe/Paris"?)`,
		"europe/paris":      `timezone: unknown IANA zone "europe/paris" (did you mean "Europe/Paris"?)`,
		"new york":          `timezone: unknown IANA zone "new york" (did you mean "America/New_York"?)`,
		"Europe/Tokyo":      `timezone: unknown IANA zone "Europe/Tokyo" (did you mean "Asia/Tokyo"?)`,
		"utc":               `timezone: unknown IANA zone "utc" (did you mean "UTC"?)`,
		"Mars/Phobos\x00":   `timezone: unknown IANA zone "Mars/Phobos\x00"` + example,
	} {
		require.EqualError(t, checkZone(zone), want)
	}
}
