//go:build faults

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shells complete "headgate tenant explain ac" as at a prompt, and print what is offered, a
// name a line.
var shells = map[string]struct{ program, script string }{
	"bash": {"bash", `
source /usr/share/bash-completion/bash_completion
compopt() { :; } # of bash at a prompt only
source <(headgate completion bash)
COMP_WORDS=(headgate tenant explain ac) COMP_CWORD=3 COMP_LINE="headgate tenant explain ac" COMP_POINT=26 COMP_TYPE=9
__start_headgate
printf '%s\n' "${COMPREPLY[@]}"`},
	"zsh": {"zsh", `
autoload -Uz compinit && compinit -u -d "$HOME/zcompdump"
source <(headgate completion zsh)
_describe() { print -l -- "${completions[@]}" } # of zsh at a prompt only
words=(headgate tenant explain ac) CURRENT=4
_headgate`},
	"fish": {"fish", `
headgate completion fish | source
complete -C "headgate tenant explain ac"`},
}

// Each shell that is there completes tenants with the script that the program prints, and
// says nothing while the central database is away. bash is always there; .ci/faults brings
// the others.
func TestFaultsShellsComplete(t *testing.T) {
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for _, slug := range []string{"acme", "acme-two", "bolt"} {
		env.Tenant(slug, "db")
	}
	bin := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "headgate"), []byte("#!/bin/sh\n"+asMain+"=1 exec "+self+" \"$@\"\n"), 0o700))
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			run := func(environ []string) string {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, shell.program, "-c", shell.script)
				cmd.Env = append(append([]string{}, environ...), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
				output, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", output)
				return strings.TrimSpace(string(output))
			}
			require.Equal(t, []string{"acme", "acme-two"}, strings.Fields(run(c.environ)))
			require.Empty(t, run(c.with("DATABASE_URL", "postgres://u:p@127.0.0.1:1/d").environ))
		})
	}
}
