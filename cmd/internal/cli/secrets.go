package cli

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
func (app *App) secretFromEnv(name string) (text, from string, err error) {
	value, file := app.Env(name), app.Env(name+"_FILE")
	switch {
	case value != "" && file != "":
		return "", name, Usagef("both %s and %s_FILE are set: unset one of them", name, name)
	case value != "":
		return value, name, nil
	case file != "":
		text, err := app.readSecret(name+"_FILE", file)
		return strings.TrimSpace(string(text)), name + "_FILE", err
	}
	return "", name, nil
}

// AddressFrom reads a connection string from a file or "-" given by flag, else
// from the environment, and holds it to the policy for tenant databases.
func (app *App) AddressFrom(ctx context.Context, flag, file, variable string) (address.Address, error) {
	text, from, err := app.addressText(ctx, flag, file, variable)
	if err != nil {
		return address.Address{}, err
	}
	a, err := address.Parse(text)
	if err != nil {
		return address.Address{}, Usagef("%s: %w", from, err)
	}
	return a, nil
}

// addressText reads a connection string, and says what gave it.
func (app *App) addressText(ctx context.Context, flag, file, variable string) (text, from string, err error) {
	text, from, err = app.secretFromEnv(variable)
	if file != "" {
		var raw []byte
		if file == "-" {
			raw, err = app.Read(ctx, flag, file, app.askSecret)
		} else {
			raw, err = app.readSecret(flag, file)
		}
		text, from = strings.TrimSpace(string(raw)), flag
	}
	if err != nil {
		return "", "", err
	}
	if text == "" && file == "" {
		return "", "", Usagef("no address is given: set %s, or give %s FILE (- reads it from standard input); it is not taken from the command line, where others can see it", variable, flag)
	}
	return text, from, nil
}

// Read returns the contents of a file, or for "-" what ask gets from stdin.
func (app *App) Read(ctx context.Context, flag, file string, ask func(flag string) ([]byte, error)) ([]byte, error) {
	if file != "-" {
		return readFile(flag, file)
	}
	restore := app.terminalState()
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

// AskText reads stdin to its end.
func (app *App) AskText(flag string) ([]byte, error) { return bounded(flag, app.Stdin) }

// askSecret reads stdin to its end, on a terminal one line without echo.
func (app *App) askSecret(flag string) ([]byte, error) {
	terminal, ok := app.terminal()
	if !ok {
		return app.AskText(flag)
	}
	app.Say("%s: type or paste the address (it is not shown) and press Enter", flag)
	return term.ReadPassword(terminal)
}

// terminal returns stdin's descriptor if it is a terminal.
func (app *App) terminal() (int, bool) {
	in, ok := app.Stdin.(*os.File)
	if !ok {
		return 0, false
	}
	return int(in.Fd()), term.IsTerminal(int(in.Fd()))
}

// terminalState returns what puts the terminal back as it is now: an interrupted
// question would leave it without echo.
func (app *App) terminalState() (restore func()) {
	terminal, ok := app.terminal()
	if !ok {
		return func() {}
	}
	state, err := term.GetState(terminal)
	if err != nil {
		return func() {}
	}
	return func() { _ = term.Restore(terminal, state) } // there is no other way to do it
}

// readSecret reads a file with a password in it, and says so once if others may read it
// too. It is no error: where secrets are mounted, the mode is often not the user's.
func (app *App) readSecret(what, file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && app.Once(file) {
		app.Say("warning: %s: the file %s has mode %#o, so others on this machine can read the password: run chmod 600 %s", what, Quote(file), info.Mode().Perm(), file)
	}
	return readFile(what, file)
}

// SecretFile reads a file with a password in it, without the blanks around.
func (app *App) SecretFile(flag, file string) (string, error) {
	text, err := app.readSecret(flag, file)
	return strings.TrimSpace(string(text)), err
}

func readFile(what, file string) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // the user names a file of his own
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, Usagef("%s: the file %s cannot be read: %w", what, Quote(file), err)
	}
	defer func() { _ = f.Close() }() // only read
	return bounded(what, f)
}

func bounded(what string, r io.Reader) ([]byte, error) { return ReadUpTo(what, r, maxInput) }

// ReadUpTo reads to the end, and refuses more bytes than most. what is named in errors.
func ReadUpTo(what string, r io.Reader, most int) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, Usagef("%s: it cannot be read: %w", what, err)
	case len(text) > most:
		return nil, Usagef("%s: more than %d bytes", what, most)
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// HasSecret reports whether a variable, or the one that names its file, is set.
func (app *App) HasSecret(name string) bool {
	return app.Env(name) != "" || app.Env(name+"_FILE") != ""
}
