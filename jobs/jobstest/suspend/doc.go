// Package suspend stops the process that it is part of, in tests that freeze one. It
// imports nothing of Headgate, so that the fault points of each half may use it.
package suspend
