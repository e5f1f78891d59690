package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// App is what every command has at hand: the streams, the environment, the global
// flags, and the way to the central database.
type App struct {
	name           string // of the program, before what it says last
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string

	// Check is what a client asks of the stored arguments of a kind; nil: nothing.
	Check func(kind string, args []byte) error

	// Kinds are those that this program has itself, for completion.
	Kinds []string

	Tracer trace.TracerProvider // nil: the global one
	Meter  metric.MeterProvider // the same

	Output string       // how data is printed: one of Formats
	Log    *slog.Logger // set before a command runs

	DatabaseURL string // the central database, where a flag names it
	Pooler      string // what stands before the central database
	logLevel    string
	logFormat   string

	zone *time.Location  // in which tables show times
	told map[string]bool // what needs to be said but once
}

// New makes the App of the program of that name. environ is as os.Environ has it.
func New(name string, stdin io.Reader, stdout, stderr io.Writer, environ []string) *App {
	app := &App{name: name, Stdin: stdin, Stdout: stdout, Stderr: stderr, Environ: environ, zone: time.Local, told: map[string]bool{}}
	if zone := app.Env("TZ"); zone != "" {
		if location, err := time.LoadLocation(strings.TrimPrefix(zone, ":")); err == nil {
			app.zone = location
		}
	}
	return app
}

// Env looks a variable up; the last of several wins, as in os/exec.
func (app *App) Env(name string) string {
	for _, entry := range slices.Backward(app.Environ) {
		if key, value, _ := strings.Cut(entry, "="); key == name {
			return value
		}
	}
	return ""
}

// Actor is who runs the command, for records: the login name, or the user's number where
// the environment has no name.
func (app *App) Actor() string {
	return cmp.Or(app.Env("USER"), app.Env("LOGNAME"), fmt.Sprintf("uid %d", os.Getuid()))
}

// Once reports whether it is asked for the first time about what.
func (app *App) Once(what string) bool {
	first := !app.told[what]
	app.told[what] = true
	return first
}

// At returns the same program in another environment, with another central database.
func (app *App) At(databaseURL string, environ []string) *App {
	other := *app
	other.DatabaseURL, other.Pooler, other.Environ = databaseURL, string(address.NoPooler), environ
	return &other
}

// Root makes a command the root of a program: its flags hold for all below it.
func (app *App) Root(root *cobra.Command) {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentPreRunE = app.begin
	usage := strings.NewReplacer(".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", lineWidth), "{{.UseLine}}", "{{wrappedUse .UseLine}}").Replace(root.UsageTemplate())
	root.SetHelpTemplate(strings.Replace(root.HelpTemplate(), "{{. | trimTrailingWhitespaces}}", "{{. | trimTrailingWhitespaces | wrappedText}}", 1))
	root.SetUsageTemplate(usage + "{{if not .HasParent}}" + exitCodesText + "{{end}}")
	root.SetFlagErrorFunc(flagError)

	flags := root.PersistentFlags()
	flags.StringVarP(&app.Output, "output", "o", "table", "how to print data: "+strings.Join(Formats, ", "))
	flags.StringVar(&app.DatabaseURL, "database-url", "", "the central database (visible to others in ps; better: DATABASE_URL)")
	flags.StringVar(&app.Pooler, "central-pooler", "none", "what stands before the central database: "+strings.Join(Poolers, ", "))
	flags.String("reason", "", "why, for the audit of what the command changes")
	flags.StringVar(&app.logLevel, "log-level", "info", "what to log: "+strings.Join(logLevels, ", "))
	flags.StringVar(&app.logFormat, "log-format", "text", "how to log: "+strings.Join(logFormats, ", "))
	Complete(root, "output", Formats)
	Complete(root, "central-pooler", Poolers)
	Complete(root, "log-level", logLevels)
	Complete(root, "log-format", logFormats)
}

// Run runs a command line to its end, and returns the exit code.
func (app *App) Run(ctx context.Context, root *cobra.Command, args []string) int {
	onceEach(root)
	root.SetArgs(append([]string{}, args...)) // nil would mean the process's own
	root.SetIn(app.Stdin)
	root.SetOut(app.Stdout)
	root.SetErr(app.Stderr)
	return app.end(ctx, root.ExecuteContext(ctx))
}

// fromEnv are the flags that a variable may set: HEADGATE_ and the flag's name
// in capitals. A flag given wins.
var fromEnv = []string{"output", "log-level", "log-format", "slots", "bulk-slots", "reports", "error-detail", "central-pooler"}

// mostReason is how many characters of a reason the audit keeps.
const mostReason = 500

// begin checks what every command is given, and makes the logger.
func (app *App) begin(cmd *cobra.Command, args []string) (err error) {
	if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
		return nil // a completion never says what is wrong
	}
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if value := app.Env(envName(flag.Name)); err == nil && value != "" && !flag.Changed && slices.Contains(fromEnv, flag.Name) {
			if cmd.Flags().Set(flag.Name, value) != nil {
				err = Usagef("%s: %s does not fit: %s", envName(flag.Name), Quote(value), flag.Usage)
			}
		}
	})
	if err != nil {
		return err
	}
	if err := checkText(cmd, args); err != nil {
		return err
	}
	if err := OneOf("--output", app.Output, Formats); err != nil {
		return err
	}
	if err := OneOf("--central-pooler", app.Pooler, Poolers); err != nil {
		return err
	}
	if cmd.Context() != nil {
		reason := cmd.Flags().Lookup("reason").Value.String() // the command's own, where it has one
		if err := jobs.CheckText("--reason", reason, mostReason); err != nil {
			return err
		}
		cmd.SetContext(access.With(cmd.Context(), access.Actor{Name: app.Actor(), Surface: app.name, Reason: reason}))
	}
	app.Log, err = newLogger(app.Stderr, app.logLevel, app.logFormat)
	return err
}

func envName(flag string) string {
	return "HEADGATE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
