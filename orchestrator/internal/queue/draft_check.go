package queue

import (
	"regexp"
	"time"

	"github.com/headgate/headgate/jobs"
)

// Limits of one job.
const (
	maxTags  = 16
	horizon  = 10 * 365 * 24 * time.Hour
	pastSlop = time.Minute // clocks differ
)

// The names of tags are a part of those that River takes.
var tagName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{1,62}[A-Za-z0-9_]$`)

// Check says which field is wrong, and what is allowed.
func (it *Draft) Check(opts *jobs.EnqueueOpts, now time.Time) error {
	if err := it.Choices.Check(it.Kind); err != nil {
		return err
	}
	switch {
	case opts.Timeout != 0 && (opts.Timeout < time.Second || opts.Timeout > 24*time.Hour):
		return jobs.Inputf("timeout", opts.Timeout.String(), "give 1s to 24h")
	case len(it.tags) > maxTags:
		return jobs.Inputf("tags", "", "%d tags are given: give at most %d", len(it.tags), maxTags)
	}
	for _, tag := range it.tags {
		if !tagName.MatchString(tag) {
			return jobs.Inputf("tag", tag, "a tag is 3 to 64 letters, digits, dashes or underscores, no dash first or last")
		}
	}
	if err := jobs.CheckBrand(opts.Brand); err != nil {
		return err
	}
	if err := checkKey(opts.IdempotencyKey); err != nil {
		return err
	}
	return it.checkRunAt(opts, now)
}

func (it *Draft) checkRunAt(opts *jobs.EnqueueOpts, now time.Time) error {
	at := opts.RunAt
	if at.IsZero() {
		return nil
	}
	said := at.UTC().Format(time.RFC3339)
	past := jobs.Inputf("run at", said, "it is past: leave it out to run now, or allow the past")
	isPast := at.Before(now.Add(-pastSlop)) && !opts.AllowPast
	switch {
	case at.After(now.Add(horizon)):
		return jobs.Inputf("run at", said, "it is too far ahead: give at most ten years")
	case isPast && opts.IdempotencyKey == "":
		return past
	case at.Year() < 2000:
		return jobs.Inputf("run at", said, "it is not a time that anybody means: give one after 2000")
	case isPast:
		it.late = past // or a request that is repeated
	}
	return nil
}
