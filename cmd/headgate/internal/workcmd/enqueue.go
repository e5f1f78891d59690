package workcmd

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

// enqueuedView is the shape of `job enqueue -o json`.
type enqueuedView struct {
	UID      string `json:"uid"`
	Kind     string `json:"kind"`
	Tenant   string `json:"tenant,omitempty"`
	Database string `json:"database,omitempty"`
	Brand    *int   `json:"brand,omitempty"`
	Same     bool   `json:"same,omitempty"` // it was accepted before under the key
}

var enqueuedColumns = []cli.Column[enqueuedView]{
	{Name: "uid", Of: func(e enqueuedView) any { return e.UID }},
	{Name: "kind", Of: func(e enqueuedView) any { return e.Kind }},
	{Name: "tenant", Of: func(e enqueuedView) any { return e.Tenant }},
	{Name: "database", Of: func(e enqueuedView) any { return e.Database }},
}

func jobEnqueue(app *cli.App) *cobra.Command {
	var a kinds.Request
	var runAt string
	var in time.Duration
	cmd := &cobra.Command{
		Use:   "enqueue KIND --tenant TENANT | --database DATABASE",
		Short: "Ask for one job",
		Long: "Ask for one job. It is committed when the command returns 0, and runs as soon as a\nworker has a place for it.\n\n" +
			"Built-in kinds: " + strings.Join(kinds.Names(), ", ") + ".",
		Example: "  headgate job enqueue headgate.purge --tenant acme --args '{\"table\": \"events\", \"column\": \"at\", \"older_than\": \"90d\"}'\n" +
			"  headgate job enqueue headgate.analyze --database acme-db",
		Args: cli.Args("KIND"),
	}
	cmd.ValidArgs = kinds.Names()
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) (err error) {
		if (a.Tenant == "") == (a.Database == "") {
			return cli.Usagef("whom is the job for? give one of --tenant and --database")
		}
		if a.Opts.RunAt, err = cli.TimeFlag("run-at", runAt); err != nil {
			return err
		}
		if err := cli.NotZero(cmd, "queue", "idempotency-key"); err != nil {
			return err
		}
		if cmd.Flags().Changed("in") {
			if runAt != "" {
				return cli.Usagef("when? give one of --run-at and --in")
			}
			a.Opts.RunAt = time.Now().Add(in)
		}
		return enqueue(ctx, app, args[0], &a)
	})
	a.Flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&a.Database, "database", "", "the database, for kinds that work on a whole one")
	flags.StringVar(&runAt, "run-at", "", "the earliest time to run, RFC 3339: 2026-12-01T03:00:00Z")
	cli.DurationVar(flags, &in, "in", 0, "the same from now: 90s, 10m, 48h")
	flags.Var(cli.Brand(&a.Opts.Brand), "brand", "limit it to one brand of the tenant, 0 to 9999, or all (default: all)")
	flags.StringVar(&a.Opts.IdempotencyKey, "idempotency-key", "", "makes it harmless to repeat the command: under a key that is taken the first job is answered")
	flags.BoolVar(&a.Opts.AllowPast, "allow-past", false, "accept a time that is past")
	flags.StringArrayVar(&a.Opts.Tags, "tag", nil, "a tag; may be repeated")
	cli.DurationIn(flags, &a.Opts.Timeout, "timeout", 0, time.Second, 24*time.Hour, "the time of one attempt, 1s to 24h (default: the kind's, or the worker's)")
	return cmd
}

func enqueue(ctx context.Context, app *cli.App, kind string, a *kinds.Request) error {
	args, err := a.ReadQuietly(ctx, app, kind)
	if err != nil {
		return err
	}
	view, columns := enqueuedView{Kind: kind, Tenant: a.Tenant, Database: a.Database, Brand: a.Opts.Brand}, enqueuedColumns
	if view.Brand != nil {
		columns = append(slices.Clone(columns), cli.Column[enqueuedView]{Name: "brand", Of: func(e enqueuedView) any { return *e.Brand }})
	}
	return app.Open(ctx, nil, func(central cli.Central) error {
		kinds.NoteUnserved(ctx, app, central, kind)
		var result jobs.EnqueueResult
		if a.Database != "" {
			result, err = central.Client.EnqueueDatabase(ctx, a.Database, args, &a.Opts)
		} else {
			result, err = central.Client.Enqueue(ctx, a.Tenant, args, &a.Opts)
		}
		if err != nil {
			return cli.BadValue(cli.NearOwner(ctx, central, a.Tenant, a.Database, err))
		}
		view.UID, view.Same = result.UID, result.Status == jobs.StatusSame
		if view.Same {
			app.Say("this job was accepted before under the key; nothing was added")
		}
		return cli.One(app, view, columns)
	})
}
