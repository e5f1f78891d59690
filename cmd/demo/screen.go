package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// screen is where the demo shows itself.
type screen struct {
	out, err io.Writer // what was asked for, and what happens meanwhile
	width    int       // of the terminal before which a person sits; 0 without one
	live     bool      // err is a terminal, on which a line can be written over
	colour   bool
}

// terminal is this process's own. Somebody sits before it if both what is typed
// and what is shown goes through one.
func terminal() screen {
	s := screen{out: os.Stdout, err: os.Stderr}
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	if isTerminal(os.Stdin) && isTerminal(os.Stdout) {
		s.width = 80
		if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && width > 0 {
			s.width = width
		}
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	s.live = isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb"
	return s
}
