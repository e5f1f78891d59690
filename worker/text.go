package worker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/internal/redact"
	"github.com/headgate/headgate/worker/tenantdb"
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
	said, forgot := a.log.heard()
	var panicked *panicError
	var inner error
	if errors.As(err, &panicked) {
		inner, _ = panicked.value.(error)
	}
	if forgot && (panicked != nil || errors.As(err, new(*workError))) {
		return shortText(errors.Join(err, inner))
	}
	return said.With(redact.Find(inner)...).Text(err)
}

// leftOutOf is why a text is not kept at all.
var leftOutOf = fmt.Sprintf("left out: the server has sent more than %d errors in this attempt, and a text may have values of rows of those that are forgotten", tenantdb.MostErrors)

// shortText is what is known of an error without its text: that the attempt's time was up,
// and the server's errors that it wraps.
func shortText(err error) string {
	text := "[the text is " + leftOutOf + "]"
	var late *timeoutError
	if errors.As(err, &late) {
		text += " " + late.Error()
	}
	for i, said := range redact.Find(err) {
		if i == tenantdb.MostErrors {
			break
		}
		text += " " + redact.Text(said, nil)
	}
	return text
}
