package jobs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/headgate/headgate/jobs"
)

func TestCodeOfIsTheOutermost(t *testing.T) {
	plain, gone, taken := errors.New("plain"), jobs.Sentinel("gone", "it is gone"), jobs.Sentinel("taken", "it is taken")
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{plain, ""},
		{gone, "gone"},
		{fmt.Errorf("look: %w", gone), "gone"},
		{fmt.Errorf("%w: %w", taken, gone), "taken"},
		{errors.Join(plain, fmt.Errorf("add: %w", taken), gone), "taken"},
	} {
		if got := jobs.CodeOf(test.err); got != test.want {
			t.Errorf("CodeOf(%v) is %q, want %q", test.err, got, test.want)
		}
	}
}

func TestSentinelIsItself(t *testing.T) {
	one, other := jobs.Sentinel("gone", "it is gone"), jobs.Sentinel("gone", "it is gone")
	if !errors.Is(fmt.Errorf("look: %w", one), one) || errors.Is(one, other) {
		t.Error("a sentinel must match itself and no other")
	}
	if one.Error() != "it is gone" {
		t.Errorf("it says %q", one)
	}
}
