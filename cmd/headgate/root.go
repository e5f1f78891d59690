package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// program is what every command has at hand: the streams, the environment and
// the global flags.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	zone           *time.Location // in which tables show times

	output      string
	databaseURL string
	pooler      string // before the central database
	logLevel    string
	logFormat   string

	log *slog.Logger // set before a command runs
}

func newProgram(stdin io.Reader, stdout, stderr io.Writer, environ []string) *program {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ, zone: time.Local}
	if zone := p.env("TZ"); zone != "" {
		if location, err := time.LoadLocation(strings.TrimPrefix(zone, ":")); err == nil {
			p.zone = location
		}
	}
	return p
}

// env looks a variable up; the last of several wins, as in os/exec.
func (p *program) env(name string) string {
	for _, entry := range slices.Backward(p.environ) {
		if key, value, _ := strings.Cut(entry, "="); key == name {
			return value
		}
	}
	return ""
}

const rootLong = `Headgate runs background jobs across the databases of a SaaS's tenants: each job
in its tenant's own database, exactly once, from one queue in a central Postgres.

  headgate dev                    try it: a private Postgres, nothing to set up
  headgate migrate up             make the tables in the central database
  headgate serve                  fire schedules and run jobs

The central database is --database-url, else DATABASE_URL, else the contents of
DATABASE_URL_FILE, else what PGHOST and its like say. Behind a PgBouncer in
transaction mode say so with --central-pooler transaction, and give the address
past it in DATABASE_DIRECT_URL, for migrations and for hearing of new work. The
addresses of tenant databases are sealed with HEADGATE_KEY, or the key in
HEADGATE_KEY_FILE.`

const exitCodesText = `
Exit codes:
  0    ok
  1    finished, with failures
  2    usage: a wrong flag, argument or value
  3    not found
  4    not permitted: a login is refused, a privilege is missing, a tenant is suspended
  5    unreachable: the central database, or the one being added, does not answer
  6    conflict: it exists already
  7    the schema of a database and this program do not fit
  124  timeout
  130  interrupted

Data goes to standard output, everything else to standard error.
`

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "headgate",
		Short:         "Background jobs across tenant databases",
		Long:          rootLong,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return p.begin(cmd)
		},
	}
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}" + exitCodesText + "{{end}}")
	root.SetFlagErrorFunc(flagError)

	flags := root.PersistentFlags()
	flags.StringVarP(&p.output, "output", "o", "table", "how to print data: "+strings.Join(formats, ", "))
	flags.StringVar(&p.databaseURL, "database-url", "", "the central database (visible to others in ps; better: DATABASE_URL)")
	flags.StringVar(&p.pooler, "central-pooler", "none", "what stands before the central database: "+strings.Join(poolers, ", "))
	flags.StringVar(&p.logLevel, "log-level", "info", "what to log: "+strings.Join(logLevels, ", "))
	flags.StringVar(&p.logFormat, "log-format", "text", "how to log: "+strings.Join(logFormats, ", "))
	complete(root, "output", formats)
	complete(root, "central-pooler", poolers)
	complete(root, "log-level", logLevels)
	complete(root, "log-format", logFormats)

	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "catalog", Title: "Say where tenants live:"},
		&cobra.Group{ID: "limits", Title: "Say whose work may run, and how much of it:"},
		&cobra.Group{ID: "work", Title: "Ask for work and see what became of it:"},
	)
	root.AddCommand(
		in("run", p.devCommand()), in("run", p.serveCommand()), in("run", p.workerCommand()), in("run", p.migrateCommand()), in("run", p.doctorCommand()),
		in("catalog", p.serverCommand()), in("catalog", p.databaseCommand()), in("catalog", p.tenantCommand()),
		in("limits", p.limitCommand()), in("limits", p.pauseCommand()), in("limits", p.resumeCommand()),
		in("work", p.jobCommand()), in("work", p.scheduleCommand()),
		p.benchCommand(), p.versionCommand(),
	)
	return root
}

func in(group string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = group
	return cmd
}

// group is a noun with its verbs.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}

func complete(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

// fromEnv are the flags that a variable may set: HEADGATE_ and the flag's name
// in capitals. A flag given wins.
var fromEnv = []string{"output", "log-level", "log-format", "slots", "bulk-slots", "reports", "root-certs", "central-pooler"}

// begin checks the global flags and makes the logger.
func (p *program) begin(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if value := p.env(envName(flag.Name)); err == nil && value != "" && !flag.Changed && slices.Contains(fromEnv, flag.Name) {
			if cmd.Flags().Set(flag.Name, value) != nil {
				err = usagef("%s: %s does not fit: %s", envName(flag.Name), quote(value), flag.Usage)
			}
		}
	})
	if err != nil {
		return err
	}
	if err := oneOf("--output", p.output, formats); err != nil {
		return err
	}
	if err := oneOf("--central-pooler", p.pooler, poolers); err != nil {
		return err
	}
	p.log, err = newLogger(p.stderr, p.logLevel, p.logFormat)
	return err
}

func envName(flag string) string {
	return "HEADGATE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// shortCommand bounds every command that is not there to stay.
const shortCommand = time.Minute

// brief makes the RunE of a command that ends by itself.
func brief(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), shortCommand)
		defer cancel()
		return work(ctx, args)
	}
}
