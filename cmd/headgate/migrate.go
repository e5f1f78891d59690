package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/migrations"
)

func migrateCommand(app *cli.App) *cobra.Command {
	return cli.Group("migrate", "Make or upgrade the tables in the central database", migrateUp(app), migrateStatus(app))
}

// migratedView is the shape of `migrate up -o json`.
type migratedView struct {
	Applied []string `json:"applied"`
	Version int      `json:"version"`
}

func migrateUp(app *cli.App) *cobra.Command {
	opts := migrations.UpOpts{Notify: func(sentence string) { app.Say("headgate: %s", sentence) }}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply what is missing; of several at once, one applies",
		Long: `Apply what is missing, while everything goes on working: a table that is in use
is tried for, briefly, again and again, and who is in the way is told. Of several
that run at once one applies and the others wait.

At the end the roles that "headgate central prepare" has made are granted what their
programs need; roles that are not there are named, and are no error. Run it again when
they have been made.`,
		Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Prefix != "" {
				if err := migrations.CheckPrefix(opts.Prefix); err != nil {
					return cli.BadValue(err)
				}
			}
			return runMigrateUp(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().StringVar(&opts.Prefix, "prefix", "", "what the names of the roles begin with from now on (default: as before, headgate at first)")
	cli.DurationIn(cmd.Flags(), &opts.Wait, "wait", 5*time.Minute, time.Second, 0, "how long to wait for others in all, before it ends with who is in the way")
	return cmd
}

func runMigrateUp(ctx context.Context, app *cli.App, opts migrations.UpOpts) error {
	conn, err := app.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // what counts is committed
	applied, err := migrations.Up(ctx, conn, &opts)
	if err != nil {
		return errors.Join(printApplied(app, applied), err)
	}
	status, err := migrations.ReadStatus(ctx, conn)
	if err == nil {
		err = migrations.Check(ctx, conn)
	}
	if err != nil {
		return err
	}
	if err := sayRoles(ctx, app, conn); err != nil {
		return err
	}
	if app.Output != "table" {
		view := migratedView{Applied: append([]string{}, applied...), Version: status.Version}
		return cli.One(app, view, []cli.Column[migratedView]{
			{Name: "applied", Of: func(v migratedView) any { return v.Applied }},
			{Name: "version", Of: func(v migratedView) any { return v.Version }},
		})
	}
	if err := printApplied(app, applied); err != nil {
		return err
	}
	if len(applied) == 0 {
		app.Say("already current: schema %d", status.Version)
		return nil
	}
	app.Say("the central database is at schema %d", status.Version)
	return nil
}

// sayRoles tells of roles that are not there, and of rights that this login could not give.
func sayRoles(ctx context.Context, app *cli.App, conn *pgx.Conn) error {
	roles, err := migrations.ReadRoles(ctx, conn)
	if err != nil {
		return err
	}
	if len(roles.There) > 0 && len(roles.Missing) > 0 {
		app.Say("the server has no role %s: `headgate central prepare --prefix %s` makes the role, and `headgate migrate up` grants it its rights then", strings.Join(roles.Missing, ", "), roles.Prefix)
	} else if len(roles.Missing) > 0 {
		app.Say("the server has no roles of Headgate's, so every program needs a login with all rights: `headgate central prepare --prefix %s` makes the roles, and `headgate migrate up` grants them their rights then", roles.Prefix)
	}
	for _, statement := range slices.Concat(roles.Lacking, roles.Surplus) {
		app.Say("this login may not do it; have the owner run: %s", statement)
	}
	return nil
}

func printApplied(app *cli.App, applied []string) error {
	if app.Output != "table" {
		return nil
	}
	for _, name := range applied {
		if err := app.Print("applied %s", name); err != nil {
			return err
		}
	}
	return nil
}

// statusView is the shape of `migrate status -o json`.
type statusView struct {
	State     string     `json:"state"` // none, behind, current, ahead (newer and usable), unusable (too new)
	Version   int        `json:"version"`
	Program   int        `json:"program"`
	Serves    int        `json:"serves"`
	AppliedAt *time.Time `json:"applied_at"`
	Pending   []string   `json:"pending"`
}

func migrateStatus(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say which schema there is, and which this program needs",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			conn, err := app.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // only read
			status, err := migrations.ReadStatus(ctx, conn)
			if err != nil {
				return err
			}
			return cli.One(app, viewStatus(status), []cli.Column[statusView]{
				{Name: "state", Of: func(s statusView) any { return s.State }},
				{Name: "version", Of: func(s statusView) any { return s.Version }},
				{Name: "program", Of: func(s statusView) any { return s.Program }},
				{Name: "serves", Of: func(s statusView) any { return s.Serves }},
				{Name: "applied_at", Of: func(s statusView) any { return s.AppliedAt }},
				{Name: "pending", Of: func(s statusView) any { return s.Pending }},
			})
		}),
	}
}

func viewStatus(s migrations.Status) statusView {
	view := statusView{Version: s.Version, Program: s.Program, Serves: s.Serves, Pending: s.Pending}
	if !s.AppliedAt.IsZero() {
		view.AppliedAt = &s.AppliedAt
	}
	switch {
	case s.Version == 0:
		view.State = "none"
	case s.Version < s.Program:
		view.State = "behind"
	case s.Serves > s.Program:
		view.State = "unusable"
	case s.Version > s.Program:
		view.State = "ahead"
	default:
		view.State = "current"
	}
	return view
}
