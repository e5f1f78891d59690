package orchestrator

import (
	"errors"
	"fmt"
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

// check says which field is wrong, and what is allowed.
func (it *item) check(opts *EnqueueOpts, now time.Time) error {
	if err := errors.Join(jobs.CheckKind(it.kind), jobs.CheckQueue(it.queue)); err != nil {
		return err
	}
	switch {
	case it.priority < 1 || it.priority > 4:
		return fmt.Errorf("priority is %d: give 1 (first) to 4", it.priority)
	case it.maxAttempts < 1 || it.maxAttempts > 1000:
		return fmt.Errorf("max attempts is %d: give 1 to 1000", it.maxAttempts)
	case opts.Timeout != 0 && (opts.Timeout < time.Second || opts.Timeout > 24*time.Hour):
		return fmt.Errorf("timeout is %s: give 1s to 24h", opts.Timeout)
	case len(it.tags) > maxTags:
		return fmt.Errorf("%d tags: at most %d", len(it.tags), maxTags)
	}
	for _, tag := range it.tags {
		if !tagName.MatchString(tag) {
			return fmt.Errorf("tag %q: a tag is 3 to 64 letters, digits, dashes or underscores, no dash first or last", cut(tag))
		}
	}
	if err := checkKey(opts.IdempotencyKey); err != nil {
		return err
	}
	return it.checkRunAt(opts, now)
}

func (it *item) checkRunAt(opts *EnqueueOpts, now time.Time) error {
	at := opts.RunAt
	past := fmt.Errorf("run at %s is past: leave it out to run now, or allow the past", at.UTC().Format(time.RFC3339))
	isPast := at.Before(now.Add(-pastSlop)) && !opts.AllowPast
	switch {
	case at.IsZero():
		return nil
	case at.After(now.Add(horizon)):
		return fmt.Errorf("run at %s is too far ahead: at most ten years", at.UTC().Format(time.RFC3339))
	case isPast && opts.IdempotencyKey == "":
		return past
	case at.Year() < 2000:
		return fmt.Errorf("run at %s is not a time that anybody means: give one after 2000", at.UTC().Format(time.RFC3339))
	case isPast:
		it.late = past // or a request that is repeated
	}
	return nil
}

// cut bounds what an error repeats of a bad value.
func cut(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
