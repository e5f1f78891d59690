package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// place is where a command takes a text: an argument, or a flag that is no number and no choice
// of pflag's.
type place struct {
	command []string
	flag    string // "" for the argument at
	at      int
	words   []string // all arguments of the command
}

// args is the command line with a text at the place.
func (p place) args(text string) []string {
	args := append([]string{}, p.command...)
	for i, word := range p.words {
		switch {
		case p.flag == "" && i == p.at:
			args = append(args, text)
		case strings.Contains(word, "|"):
			args = append(args, strings.Split(word, "|")[0])
		default:
			args = append(args, "x"+strings.ToLower(word[:1]))
		}
	}
	if p.flag != "" {
		args = append(args, "--"+p.flag+"="+text)
	}
	return args
}

// places are all of the program.
func places(t *testing.T) (all []place) {
	t.Helper()
	var out bytes.Buffer
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		for _, sub := range cmd.Commands() {
			walk(sub, append(append([]string{}, path...), sub.Name()))
		}
		if len(cmd.Commands()) > 0 || !cmd.Runnable() {
			return
		}
		words := strings.Fields(strings.NewReplacer("[", "", "]", "", "...", "").Replace(cmd.Use))[1:]
		for i, word := range words {
			if strings.HasPrefix(word, "-") {
				words = words[:i]
				break
			}
		}
		for i := range words {
			all = append(all, place{command: path, at: i, words: words})
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if flag.Value.Type() != "bool" {
				all = append(all, place{command: path, flag: flag.Name, words: words})
			}
		})
		cmd.InheritedFlags().VisitAll(func(flag *pflag.Flag) {
			if flag.Value.Type() != "bool" {
				all = append(all, place{command: path, flag: flag.Name, words: words})
			}
		})
	}
	walk(root(cli.New("headgate", nil, &out, &out, nil)), nil)
	require.Greater(t, len(all), 1200)
	return all
}

// An address with a password that is pasted where a name, a slug, an expression or a text
// belongs is refused by every verb, before anything is asked or written, and not repeated.
func TestAPasswordInThePlaceOfANameIsNotRepeated(t *testing.T) {
	t.Parallel()
	c := nobody(t)
	c.secrets = append(c.secrets, "planted", "S3cr")
	refused := 0
	for i, p := range places(t) {
		address := []string{"postgres://app:planted-S3cret@db/x", "host=db password=planted-S3cret", "postgres://db/x?user=app&password=planted-S3cret"}[i%3]
		if slices.Contains([]string{"database-url", "args", "sql"}, p.flag) { // these may hold one
			continue
		}
		args := p.args(address)
		r := c.runWith(context.Background(), strings.NewReader(""), args...)
		require.Equal(t, cli.ExitUsage, r.code, "%q: %s%s", args, r.out, r.err)
		require.Empty(t, r.out, "%q", args)
		if strings.Contains(r.err, "is an address with a password, and none belongs there") {
			refused++
		}
	}
	require.Greater(t, refused, 900)
}

// What only may hold a password is let through where a text is free, and no verb that refuses
// it repeats it.
func TestWhatMayHoldAPasswordIsNotRepeated(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("xd", jobstestShared)
	c.secrets = append(c.secrets, "planted", "S3cr")
	for i, p := range places(t) {
		switch strings.Join(p.command, " ") {
		case "serve", "worker", "dev", "completion bash", "completion zsh", "completion fish", "completion powershell":
			continue // these run until they are ended
		}
		if p.flag == "database-url" || p.flag == "data" {
			continue
		}
		args := p.args([]string{"app:planted-S3cret@db/x", "password=planted-S3cret", "postgres://app:planted-S3cr=et!@db"}[i%3])
		var out, err bytes.Buffer
		if run(t.Context(), args, strings.NewReader(""), &out, &err, c.environ) != cli.ExitOK {
			c.noSecrets(args, result{err: err.String()})
		}
	}
}
