package worker

import (
	"errors"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/internal/redact"
)

// ErrorDetail is how much of a tenant's database's own words is kept of an error.
type ErrorDetail string

// The values of Config.ErrorDetail.
const (
	// ErrorsRedacted keeps the condition's name in the place of a message that may hold
	// values of the tenant's rows.
	ErrorsRedacted ErrorDetail = "redacted"

	// ErrorsFull keeps every message. Details and hints are kept by neither.
	ErrorsFull ErrorDetail = "full"
)

// DetailLevels are the values of Config.ErrorDetail.
var DetailLevels = []string{string(ErrorsRedacted), string(ErrorsFull)}

func (d ErrorDetail) check() (ErrorDetail, error) {
	switch d {
	case "":
		return ErrorsRedacted, nil
	case ErrorsRedacted, ErrorsFull:
		return d, nil
	}
	return d, jobs.Inputf("worker.Config.ErrorDetail", string(d), "give one of %s, or nothing for %s", strings.Join(DetailLevels, ", "), ErrorsRedacted)
}

// text is an error of the attempt as it may be kept and shown: the one place through which
// all errors of a tenant's database become text.
func (a *attempt) text(err error) string {
	switch {
	case err == nil:
		return ""
	case a.w.cfg.ErrorDetail == ErrorsFull:
		return err.Error()
	}
	said := a.said
	var panicked *panicError
	if errors.As(err, &panicked) {
		if inner, ok := panicked.value.(error); ok {
			said = append(redact.Find(inner), said...)
		}
	}
	return redact.Text(err, said)
}
