package jobs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs"
)

func TestInputErrorSaysFieldValueAndWhatIsAllowed(t *testing.T) {
	long := strings.Repeat("ä", 60)
	for _, test := range []struct {
		err  error
		want string
	}{
		{jobs.Inputf("limit", "-1", "give 1 to %d", 1000), `limit "-1": give 1 to 1000`},
		{jobs.Inputf("database", "", "name the database where the tenant lives"), "database: name the database where the tenant lives"},
		{jobs.Inputf("slug", "a\nb\xff", "give a name"), `slug "a\nb\xff": give a name`},
		{jobs.Inputf("note", long, "give less"), `note "` + strings.Repeat("ä", 40) + `"…: give less`},
		{jobs.Inputf("note", strings.Repeat("\x80", 100), "give text"), `note ""…: give text`},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
		if !utf8.ValidString(test.err.Error()) {
			t.Errorf("%q is not UTF-8", test.err)
		}
	}
}

func TestAsInputErrorKeepsTheSentence(t *testing.T) {
	cause := errors.New("args are missing")
	err := jobs.AsInputError("args", cause)
	var input *jobs.InputError
	if !errors.As(err, &input) || input.Field != "args" || !errors.Is(err, cause) || err.Error() != cause.Error() || jobs.CodeOf(err) != jobs.CodeInvalidInput {
		t.Errorf("%v: %#v", err, input)
	}
	var again *jobs.InputError
	if !errors.As(jobs.AsInputError("other", err), &again) || again != input || jobs.AsInputError("args", nil) != nil {
		t.Error("what is an input error already, or nil, must stay as it is")
	}
}

func TestInputErrorIsFoundBeneathOthers(t *testing.T) {
	err := fmt.Errorf("add tenant: %w", jobs.Inputf("slug", "A", "give a name"))
	var input *jobs.InputError
	if !errors.As(err, &input) || *input != (jobs.InputError{Field: "slug", Value: "A", Allowed: "give a name"}) {
		t.Errorf("%#v", input)
	}
	if code := jobs.CodeOf(err); code != jobs.CodeInvalidInput {
		t.Errorf("the code is %q", code)
	}
}
