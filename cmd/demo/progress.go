package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress is one line that says what is going on. On a terminal it is written
// over; elsewhere a step leaves a line when it is done, and one now and then if
// it takes long. It is safe for concurrent use.
type progress struct {
	live bool

	mu   sync.Mutex
	out  io.Writer
	last time.Time // when a line was left, or the first step began
}

// silence is how long nothing is heard at most, without a terminal.
const silence = 5 * time.Second

// wipe goes back to the line's beginning and clears it.
const wipe = "\r\x1b[K"

// now says what is being done.
func (p *progress) now(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	switch {
	case p.live:
		p.put(wipe, text)
	case p.last.IsZero():
		p.last = time.Now()
	case time.Since(p.last) >= silence:
		p.last = time.Now()
		p.put(text, "\n")
	}
}

// done leaves a line that stays.
func (p *progress) done(format string, args ...any) { _, _ = fmt.Fprintf(p, format+"\n", args...) }

// put writes as it is. Nothing is to be done about a screen that is gone.
func (p *progress) put(texts ...string) { _, _ = io.WriteString(p.out, strings.Join(texts, "")) }

// clear takes away a line that was to be written over.
func (p *progress) clear() {
	if p.live {
		_, _ = p.Write(nil)
	}
}

// Write leaves whole lines: what was being done makes room for them.
func (p *progress) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	if p.live {
		p.put(wipe)
	}
	return p.out.Write(lines)
}
