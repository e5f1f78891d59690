package kinds

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

// Request is what a job or a schedule is asked for with.
type Request struct {
	Tenant, Database, Args string
	Opts                   jobs.EnqueueOpts
}

// Flags adds the flags that jobs and schedules have in common.
func (a *Request) Flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.Tenant, "tenant", "", "the tenant, by slug, UUID or org_id")
	flags.StringVar(&a.Args, "args", "{}", "the arguments: JSON, @FILE, or - for standard input")
	cli.IntIn(flags, &a.Opts.Priority, "priority", 0, 1, 4, "1 (first) to 4 (default: the kind's, or 1)")
	flags.StringVar(&a.Opts.Queue, "queue", "", "the queue (default: the kind's, or default)")
	cli.IntIn(flags, &a.Opts.MaxAttempts, "max-attempts", 0, 1, 1000, "how often it is tried, 1 to 1000 (default: the kind's, or 25)")
}

// Read turns the text of --args into the arguments of a kind, and says so if no built-in
// serves the kind.
func (a *Request) Read(ctx context.Context, app *cli.App, kind string) (jobs.Args, error) {
	args, err := a.ReadQuietly(ctx, app, kind)
	if err == nil {
		Note(app, kind)
	}
	return args, err
}

// ReadQuietly is Read without a word about the kind.
func (a *Request) ReadQuietly(ctx context.Context, app *cli.App, kind string) (jobs.Args, error) {
	raw := []byte(a.Args)
	var err error
	if file, ok := strings.CutPrefix(a.Args, "@"); ok {
		raw, err = app.Read(ctx, "--args", file, app.AskText)
	} else if a.Args == "-" {
		raw, err = app.Read(ctx, "--args", "-", app.AskText)
	}
	if err != nil {
		return nil, err
	}
	scope := jobs.ScopeTenant
	if a.Database != "" {
		scope = jobs.ScopeDatabase
	}
	if err := fitsScope(kind, scope); err != nil {
		return nil, err
	}
	return stored(kind, raw, scope)
}
