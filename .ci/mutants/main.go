// Mutants shows that the tests notice. Each mutant is a small fault put into the code
// that the guarantees rest on; the test that its entry names must fail on it.
//
//	go run ./mutants [-check] [-j 2] [-headgate ../bin/headgate] [id or file …]
//
// No source file is written (a property test that fails may leave testdata/rapid): Go reads the mutated file through an overlay, as
// do the go commands that a test starts. Each mutant has a Postgres of its own, because
// some would spoil it. The exit status is 1 if a mutant survives, does not apply
// exactly once, or does not compile.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// patience bounds one mutant: its build and its tests.
const patience = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	check := flags.Bool("check", false, "only see that each mutant applies exactly once")
	headgate := flags.String("headgate", "../bin/headgate", "the binary whose `dev --bare` gives each mutant its Postgres")
	root := flags.String("root", "..", "the tree to mutate")
	atOnce := flags.Int("j", 1, "how many mutants to try at the same time")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	lab := lab{}
	if lab.root, err = filepath.Abs(*root); err != nil {
		return false, err
	}
	if lab.headgate, err = filepath.Abs(*headgate); err != nil {
		return false, err
	}
	all, err := readAll(filepath.Join(lab.root, ".ci", "mutants"), flags.Args())
	if err != nil {
		return false, err
	}
	if *check {
		ok = true
		for _, m := range all {
			if _, _, err := m.apply(lab.root); err != nil {
				ok = false
				fmt.Fprintf(out, "%s: %v\n", m.id, err)
			}
		}
		fmt.Fprintf(out, "%d mutants\n", len(all))
		return ok, nil
	}
	return lab.tryAll(ctx, all, max(*atOnce, 1), out)
}

// tryAll tries each mutant and prints the table as it grows, then the sums.
func (l lab) tryAll(ctx context.Context, all []mutant, atOnce int, out io.Writer) (bool, error) {
	var mu sync.Mutex
	sums := map[fate]int{}
	fmt.Fprintln(out, "| | file | mutation | result | by |\n|---|---|---|---|---|")
	todo := make(chan mutant)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for m := range todo {
				got, by := l.try(ctx, m)
				mu.Lock()
				sums[got]++
				fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", m.id, m.file, m.says, got, by)
				mu.Unlock()
			}
		})
	}
	for _, m := range all {
		select {
		case todo <- m:
		case <-ctx.Done():
		}
	}
	close(todo)
	workers.Wait()
	fmt.Fprintf(out, "\n%d mutants: %d killed, %d survived, %d equivalent, %d do not apply, %d do not compile, %d whose tests did not run\n",
		len(all), sums[killed], sums[survived], sums[equivalent], sums[stale], sums[broken], sums[untried])
	return sums[killed]+sums[equivalent] == len(all), ctx.Err()
}

// fate is what became of a mutant.
type fate string

const (
	killed     fate = "killed"
	survived   fate = "SURVIVED"
	equivalent fate = "equivalent"
	stale      fate = "DOES NOT APPLY"
	broken     fate = "DOES NOT COMPILE"
	untried    fate = "TESTS DID NOT RUN"
)

// lab is where mutants are tried.
type lab struct{ root, headgate string }

// try applies one mutant and runs its tests until one of them fails.
func (l lab) try(ctx context.Context, m mutant) (fate, string) {
	path, mutated, err := m.apply(l.root)
	if err != nil {
		return stale, err.Error()
	}
	if m.equivalent != "" {
		return equivalent, m.equivalent
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return untried, err.Error()
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := writeOverlay(dir, path, mutated)
	if err != nil {
		return untried, err.Error()
	}
	for _, t := range m.tests {
		if got, by := l.test(ctx, overlay, t); got != survived {
			return got, by
		}
	}
	return survived, ""
}

// writeOverlay makes Go read mutated where it would read file.
func writeOverlay(dir, file string, mutated []byte) (string, error) {
	instead, overlay := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: instead}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(instead, mutated, 0o600), os.WriteFile(overlay, list, 0o600))
}

var (
	failed  = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	unbuilt = regexp.MustCompile(`\[(build|setup) failed\]`)
	none    = regexp.MustCompile(`(?m)no tests to run|no test files|^no packages|matched no packages`)
	hung    = regexp.MustCompile(`panic: test timed out`)
)

// test runs one line of tests.
func (l lab) test(ctx context.Context, overlay, line string) (fate, string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args := append([]string{"dev", "--bare", "--", "go", "test", "-count=1", "-vet=off", "-failfast", "-timeout=180s", "-p=1"}, strings.Fields(line)...)
	cmd := exec.CommandContext(ctx, l.headgate, args...) //nolint:gosec // what the data files name
	cmd.Dir = l.root
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay, "DATABASE_URL=", "DATABASE_URL_FILE=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	said, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return untried, ctx.Err().Error()
	case err == nil && none.Match(said):
		return untried, "no such test: " + line
	case err == nil:
		return survived, ""
	case unbuilt.Match(said):
		return broken, lastLine(said, "\n#")
	case hung.Match(said):
		return killed, "a test that hangs: " + line
	}
	var names []string
	for _, name := range failed.FindAllSubmatch(said, -1) {
		names = append(names, string(name[1]))
	}
	if len(names) == 0 {
		return untried, lastLine(said, "")
	}
	slices.Sort(names)
	return killed, strings.Join(slices.Compact(names), ", ")
}

// lastLine is one line of what a command said: the one behind mark, or the last.
func lastLine(said []byte, mark string) string {
	said = bytes.TrimSpace(said)
	if _, behind, found := bytes.Cut(append([]byte("\n"), said...), []byte(mark)); mark != "" && found {
		lines := strings.SplitN(string(behind), "\n", 3)
		return cmp.Or(strings.TrimSpace(strings.Join(lines[1:min(2, len(lines))], "")), string(said))
	}
	return string(said[bytes.LastIndexByte(said, '\n')+1:])
}
