package health

import "errors"

// HiddenError is a sentence for strangers with the error that only the log may have.
type HiddenError struct {
	Says string
	Err  error
}

// Error is what strangers may read.
func (h *HiddenError) Error() string { return h.Says }

// Unwrap is for the log.
func (h *HiddenError) Unwrap() error { return h.Err }

// cause is the log's attribute of what strangers may not read, if there is something.
func cause(err error) []any {
	var hidden *HiddenError
	if errors.As(err, &hidden) {
		return []any{"cause", hidden.Err}
	}
	return nil
}
