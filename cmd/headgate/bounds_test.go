package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// eachFlag calls fn with each flag of each command's own. The commands are made anew for each
// call, so that what one has set is not the next one's.
func eachFlag(fn func(cmd *cobra.Command, flag *pflag.Flag)) {
	var out bytes.Buffer
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) { fn(cmd, flag) })
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root(cli.New("headgate", nil, &out, &out, nil)))
}

var (
	zeroSaid  = regexp.MustCompile(`\b0s?\b`)
	boundSaid = regexp.MustCompile(`\b(\d+)(ms|s|m|h)? to (\d+)(ms|s|m|h)?\b`)
)

// No flag of a number or a duration takes less than nothing. Nothing itself is taken where the
// flag's help says what it means, because it is not what stands where the flag is left out.
// The bounds that help tells are those that hold.
func TestFlagsTakeWhatTheirHelpSays(t *testing.T) {
	t.Parallel()
	walked := 0
	eachFlag(func(cmd *cobra.Command, flag *pflag.Flag) {
		less, zero := "-1", "0"
		switch flag.Value.Type() {
		case "duration":
			less, zero = "-1s", "0s"
		case "int", "int64":
		default:
			return
		}
		walked++
		name := cmd.CommandPath() + " --" + flag.Name
		require.Error(t, flag.Value.Set(less), name)
		if flag.Value.Set(zero) == nil && flag.Name != "confirm" {
			require.Regexp(t, zeroSaid, flag.Usage, "%s takes 0: its help says what that is", name)
		}
		if bounds := boundSaid.FindStringSubmatch(flag.Usage); bounds != nil {
			more := bounds[3] + strings.Repeat("0", 3) + bounds[4]
			require.NoError(t, flag.Value.Set(bounds[1]+bounds[2]), name)
			require.NoError(t, flag.Value.Set(bounds[3]+bounds[4]), name)
			require.Error(t, flag.Value.Set(more), name)
		}
	})
	require.Greater(t, walked, 60)
}

// A second value of a flag took the first one's place without a word. Lists take many, and the
// last of a flag of the whole program counts, which may stand in an alias of a shell.
func TestAFlagGivenTwiceIsRefused(t *testing.T) {
	t.Parallel()
	c := nobody(t)
	for says, args := range map[string]string{
		"--kind is given twice: give it once":   "job list --kind a --kind b",
		"--limit is given twice: give it once":  "audit list --limit 1 --limit=2",
		"--source is given twice: give it once": "tenant sync x.csv --source a --source b",
		"--yes is given twice: give it once":    "tenant erase 7 --yes --yes=false",
		"--reason is given twice: give it once": "region add eu --reason a --reason b",
		"--number is given twice: give it once": "schedule preview --cron @daily -n 3 --number 4",
	} {
		c.fails(cli.ExitUsage, strings.Fields(args), says)
	}
	require.Contains(t, c.ok("version", "-o", "csv", "-o", "json"), "{")
	c.fails(cli.ExitUnreachable, strings.Fields("job enqueue app.x --tenant a --tag x --tag y"), "does not answer")
}

// The number 0 is a number too: it was taken as not given, and up to 50 tenants were changed.
func TestConfirmNoughtIsANumber(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.fails(cli.ExitUsage, []string{"tenant", "suspend", "-l", "status = active", "--confirm", "0"}, "1 tenant, not the 0 of --confirm")
	require.Contains(t, c.ok("tenant", "list", "--status", "active"), "acme")
}
