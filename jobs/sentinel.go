package jobs

import "errors"

// Sentinel returns a new error that errors.Is recognises and whose code never
// changes. A sentence may change between versions; a program that shows, counts or
// translates errors goes by the code. docs/errors.md lists the codes.
func Sentinel(code, sentence string) error { return &sentinel{code, sentence} }

type sentinel struct{ code, sentence string }

func (s *sentinel) Error() string { return s.sentence }

func (s *sentinel) Code() string { return s.code }

// CodeOf returns the code of the outermost error in the tree of err that has one,
// or "" if none has. Errors that were joined are asked in their order.
func CodeOf(err error) string {
	var coded interface{ Code() string }
	if !errors.As(err, &coded) {
		return ""
	}
	return coded.Code()
}
