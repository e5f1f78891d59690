package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var fencedBlock = regexp.MustCompile("(?s)```([^\n]*)\n(.*?)```")

// holdsDocument runs the commands of a document in order, and compares what they print with
// what stands behind them; -update writes it there. A command is a line with "$ " in front.
// It goes on in lines that follow a backslash or begin with "> ". A block that is called
// something, as `file NAME` or `sql`, is handed to called.
func holdsDocument(t *testing.T, document string, called func(what, text string), run func(command string) string) (commands int) {
	t.Helper()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	now := fencedBlock.ReplaceAllStringFunc(string(text), func(found string) string {
		block := fencedBlock.FindStringSubmatch(found)
		if block[1] != "" && called != nil {
			called(block[1], block[2])
		}
		if block[1] != "" || !strings.HasPrefix(block[2], "$ ") {
			return found
		}
		var session strings.Builder
		for _, typed := range typedIn(block[2]) {
			session.WriteString(typed + run(strings.ReplaceAll(strings.TrimPrefix(typed, "$ "), "\n> ", "\n")))
			commands++
		}
		return "```\n" + session.String() + "```"
	})
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(now), 0o600))
		return commands
	}
	require.Equal(t, string(text), now)
	return commands
}

// typedIn are the commands of a block as they were typed, without what was printed.
func typedIn(block string) (all []string) {
	goesOn := false
	for line := range strings.Lines(block) {
		switch {
		case strings.HasPrefix(line, "$ "):
			all = append(all, line)
		case goesOn, strings.HasPrefix(line, "> "):
			all[len(all)-1] += line
		default:
			continue
		}
		goesOn = strings.HasSuffix(line, "\\\n")
	}
	return all
}

// ofTheDay are what is another on each day and machine, with what stands in a document.
var ofTheDay = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`), "2026-12-01 09:00:00 UTC"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|\+00:00)`), "2026-12-01T09:00:00Z"},
	{regexp.MustCompile(`removed on \d{4}-\d\d-\d\d`), "removed on 2026-12-01"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "01a22e43-99b8-7272-a954-079ba8d8c21d"},
	{regexp.MustCompile(`(?m)^(transport +).*$`), "${1}tls"},
	{regexp.MustCompile(`(?m)^(hosts +).*$`), "${1}db1.internal"},
}

// newPersonsTerminal is a terminal in the environment of a command line.
func newPersonsTerminal(c *commandLine) *terminal {
	c.t.Helper()
	s := newTerminal(c.t)
	s.environ = append(append([]string{}, c.environ...), s.environ...)
	return s
}

// answers is what a command prints, on any day. A refusal fails, and nothing else does.
func (s *terminal) answers(c *commandLine, command string) string {
	s.t.Helper()
	printed, err := s.command("set -o pipefail; " + command).CombinedOutput()
	text := string(printed)
	require.Equal(s.t, err != nil, strings.Contains("\n"+text, "\nheadgate: "), "%s\n%s", command, text)
	c.noSecrets([]string{command}, result{out: text})
	for _, o := range ofTheDay {
		text = o.pattern.ReplaceAllString(text, o.stands)
	}
	return text
}

// The handler of docs/tenants.md compiles.
func TestTheHandlerOfTheDocumentOfTenantsCompiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/tenants.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```go\n")
	require.True(t, found)
	handler, rest, found := strings.Cut(rest, "```\n")
	require.True(t, found)
	require.NotContains(t, rest, "```go\n", "there is another example, which nobody compiles")
	source := "package main\n\nimport (\n\t\"context\"\n\n\t\"github.com/jackc/pgx/v5\"\n\n\t\"github.com/headgate/headgate/jobs\"\n)\n\n" +
		"type Forecast struct{}\n\nfunc (Forecast) Kind() string { return \"app.forecast\" }\n\nvar _ jobs.TxHandler[Forecast] = forecast\n\nfunc main() {}\n\n" + handler
	main := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(main, []byte(source), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, main).CombinedOutput()
	require.NoError(t, err, "%s\n%s", output, source)
}

// Each command of docs/tenants.md prints what stands there.
func TestTheDocumentOfTenants(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("shared-1", jobstestShared)
	c.set("USER", "ana")
	s := newPersonsTerminal(c)
	commands := holdsDocument(t, "../../docs/tenants.md", nil, func(command string) string { return s.answers(c, command) })
	require.Greater(t, commands, 30)
}
