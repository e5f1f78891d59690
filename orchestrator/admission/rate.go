package admission

import (
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
)

// Rate is how many jobs may start in a period: so many at once at most, and one
// more each Per/Jobs from then on. It is "100/1h0m0s" as text and in JSON.
type Rate struct {
	Jobs int           // 1 to 1,000,000
	Per  time.Duration // 1 second to 24 hours
}

const maxRate = 1_000_000

// ParseRate reads a rate as people write it: 100/1h, 5/s, 1000/24h.
func ParseRate(text string) (Rate, error) {
	count, period, two := strings.Cut(text, "/")
	number, ok := jobs.ParseWhole(strings.TrimSpace(count))
	if !two || !ok || number > maxRate {
		return Rate{}, jobs.Inputf("rate", text, "write NUMBER/PERIOD, as in 100/1h, with a whole number of 1 to %d in digits", maxRate)
	}
	period = strings.TrimSpace(period)
	if period != "" && (period[0] < '0' || period[0] > '9') {
		period = "1" + period
	}
	per, err := time.ParseDuration(period)
	if err != nil {
		return Rate{}, jobs.Inputf("rate", text, "its period is not understood; write NUMBER/PERIOD, as in 100/1h or 5/1s")
	}
	r := Rate{int(number), per}
	return r, r.check()
}

func (r Rate) check() error {
	switch {
	case r.Jobs < 1 || r.Jobs > maxRate:
		return jobs.Inputf("rate", r.String(), "give 1 to %d jobs", maxRate)
	case r.Per < time.Second || r.Per > 24*time.Hour:
		return jobs.Inputf("rate", r.String(), "give a period of 1s to 24h")
	}
	return nil
}

// String writes a rate as ParseRate reads it.
func (r Rate) String() string { return fmt.Sprintf("%d/%s", r.Jobs, r.Per) }

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

// Wait is how long until the next job may start: 0 if one may now. ahead is how far
// the time at which the bucket is full again lies in the future (headgate.lane_rates),
// as worker/claim keeps it.
func (r Rate) Wait(ahead time.Duration) time.Duration {
	every := float64(r.Per) / float64(r.Jobs)
	return max(ahead-time.Duration(every*float64(r.Jobs-1)), 0)
}
