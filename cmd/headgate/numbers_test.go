package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// pflag reads 010 as 8: no command has a flag of
// a whole number that pflag reads.
func TestEveryWholeNumberIsReadInOneWay(t *testing.T) {
	t.Parallel()
	ints := regexp.MustCompile(`^\*pflag\.(u?int|count)`)
	var numbers int
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			kind := fmt.Sprintf("%T", f.Value)
			require.NotRegexp(t, ints, kind, "%s --%s: register it with cli.IntVar", cmd.CommandPath(), f.Name)
			if f.Value.Type() != "int" {
				return
			}
			numbers++
			before := f.Value.String()
			for _, text := range []string{"", "-5", "+5", "010", "0x10", "0b1", "0o7", "1_000", "1,000", "1e3", " 1", "99999999999999999999"} {
				require.Error(t, f.Value.Set(text), "%s --%s=%q", cmd.CommandPath(), f.Name, text)
			}
			require.Equal(t, before, f.Value.String())
			within := "10"
			if f.Value.Set(within) != nil {
				within = "3" // of --priority
			}
			require.NoError(t, f.Value.Set(within), "%s --%s", cmd.CommandPath(), f.Name)
			require.Equal(t, within, f.Value.String())
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root(cli.New("headgate", strings.NewReader(""), io.Discard, io.Discard, nil)))
	require.Greater(t, numbers, 20)
}

func TestANumberIsWrittenInDigits(t *testing.T) {
	t.Parallel()
	c := nobody(t)
	for _, text := range []string{"010", "0x10", "1_000", "-5", "+5"} {
		for _, args := range [][]string{
			{"tenant", "suspend", "acme", "--confirm=" + text},
			{"limit", "set", "tenant", "acme", "--max-running=" + text},
			{"server", "set", "eu-1", "--budget=" + text},
			{"schedule", "preview", "--cron", "@daily", "-n", text},
		} {
			c.fails(cli.ExitUsage, args, fmt.Sprintf("%q does not fit, want a whole number in digits, such as 10", text))
		}
		c.fails(cli.ExitUsage, []string{"tenant", "brand", "remove", "--", "acme", text}, fmt.Sprintf("BRAND_ID: %q is no number of a brand: give 0 to 9999", text))
	}
	c.fails(cli.ExitUsage, []string{"tenant", "brand", "remove", "acme", "9223372036854775807"}, "is no number of a brand: give 0 to 9999")
	c.fails(cli.ExitUsage, []string{"limit", "set", "tenant", "acme", "--rate", "01/1h"}, `rate "01/1h": write NUMBER/PERIOD, as in 100/1h`)
}
