package jobstest

import (
	"fmt"
	"testing"
)

// Example is [New] for a runnable example, which has no testing.T. The function
// it returns ends the environment; what goes wrong panics.
func Example() (*Env, func()) {
	tb := &exampleTB{}
	return New(tb), tb.end
}

// exampleTB does what the kit asks of a testing.TB. The rest is nil and panics.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (tb *exampleTB) end() {
	for i := len(tb.cleanups) - 1; i >= 0; i-- {
		tb.cleanups[i]()
	}
}

func (tb *exampleTB) Cleanup(f func())             { tb.cleanups = append(tb.cleanups, f) }
func (tb *exampleTB) Helper()                      {}
func (tb *exampleTB) Failed() bool                 { return false }
func (tb *exampleTB) Logf(string, ...any)          {}
func (tb *exampleTB) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (tb *exampleTB) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (tb *exampleTB) Errorf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
