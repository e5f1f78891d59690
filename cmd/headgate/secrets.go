package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// maxInput bounds what is read from a file or from stdin.
const maxInput = 1 << 20

// secretFromEnv returns the value of a variable, else the contents of the file
// that NAME_FILE names, and which of the two it was.
func (p *program) secretFromEnv(name string) (text, from string, err error) {
	value, file := p.env(name), p.env(name+"_FILE")
	switch {
	case value != "" && file != "":
		return "", name, usagef("both %s and %s_FILE are set: unset one of them", name, name)
	case value != "":
		return value, name, nil
	case file != "":
		text, err := readFile(name+"_FILE", file)
		return strings.TrimSpace(string(text)), name + "_FILE", err
	}
	return "", name, nil
}

// addressFrom reads a connection string from a file or "-" given by flag, else
// from the environment, and holds it to the policy for tenant databases.
func (p *program) addressFrom(ctx context.Context, flag, file, variable string) (address.Address, error) {
	text, from, err := p.secretFromEnv(variable)
	if file != "" {
		var raw []byte
		raw, err = p.read(ctx, flag, file, p.askSecret)
		text, from = strings.TrimSpace(string(raw)), flag
	}
	if err != nil {
		return address.Address{}, err
	}
	if text == "" && file == "" {
		return address.Address{}, usagef("no address is given: set %s, or give %s FILE (- reads it from standard input); it is not taken from the command line, where others can see it", variable, flag)
	}
	a, err := address.Parse(text)
	if err != nil {
		return address.Address{}, usagef("%s: %w", from, err)
	}
	return a, nil
}

// read returns the contents of a file, or for "-" what ask gets from stdin.
func (p *program) read(ctx context.Context, flag, file string, ask func(flag string) ([]byte, error)) ([]byte, error) {
	if file != "-" {
		return readFile(flag, file)
	}
	restore := p.terminalState()
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() { // it ends with its reader; a stdin that never ends must not hold us
		text, err := ask(flag)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		restore()
		return nil, fmt.Errorf("reading standard input for %s: %w", flag, ctx.Err())
	}
}

// askText reads stdin to its end.
func (p *program) askText(flag string) ([]byte, error) { return bounded(flag, p.stdin) }

// askSecret reads stdin to its end, on a terminal one line without echo.
func (p *program) askSecret(flag string) ([]byte, error) {
	terminal, ok := p.terminal()
	if !ok {
		return p.askText(flag)
	}
	p.say("%s: type or paste the address (it is not shown) and press Enter", flag)
	return term.ReadPassword(terminal)
}

// terminal returns stdin's descriptor if it is a terminal.
func (p *program) terminal() (int, bool) {
	in, ok := p.stdin.(*os.File)
	if !ok {
		return 0, false
	}
	return int(in.Fd()), term.IsTerminal(int(in.Fd()))
}

// terminalState returns what puts the terminal back as it is now: an interrupted
// question would leave it without echo.
func (p *program) terminalState() (restore func()) {
	terminal, ok := p.terminal()
	if !ok {
		return func() {}
	}
	state, err := term.GetState(terminal)
	if err != nil {
		return func() {}
	}
	return func() { _ = term.Restore(terminal, state) } // there is no other way to do it
}

func readFile(what, file string) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // the user names a file of his own
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, usagef("%s: the file %s cannot be read: %w", what, quote(file), err)
	}
	defer func() { _ = f.Close() }() // only read
	return bounded(what, f)
}

func bounded(what string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	switch {
	case err != nil:
		return nil, usagef("%s: it cannot be read: %w", what, err)
	case len(text) > maxInput:
		return nil, usagef("%s: more than %d bytes", what, maxInput)
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}
