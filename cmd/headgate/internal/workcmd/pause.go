package workcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

var pauseColumns = []cli.Column[admission.Pause]{
	{Name: "scope", Of: func(p admission.Pause) any { return string(p.Subject) }},
	{Name: "name", Of: func(p admission.Pause) any { return p.Name }},
	{Name: "by", Of: func(p admission.Pause) any { return p.By }},
	{Name: "since", Of: func(p admission.Pause) any { return p.Since }},
	{Name: "until", Of: func(p admission.Pause) any { return p.Until }},
	{Name: "note", Of: func(p admission.Pause) any { return p.Note }},
}

const pauseLong = `Let nothing more start of a tenant, a kind or a queue, or of what lives on a
server, until it is resumed or --until comes. What runs goes on; what waits uses
no attempt, and keeps nobody else waiting. All worker processes follow within a
second. Doing it again changes the note and the time.

--select pauses each of the tenants that an expression selects now, all of them or
none. Tenants that come to be selected later are not paused, and those that are
selected no more stay paused.`

// Pause is the verb pause, with pause list.
func Pause(app *cli.App) *cobra.Command {
	var note, until string
	var many selected
	cmd := &cobra.Command{
		Use:     "pause tenant|kind|queue|server NAME | --select EXPR [--note TEXT] [--until TIME]",
		Short:   "Let nothing more start of a tenant, kind, queue or server",
		Long:    pauseLong,
		Example: "  headgate pause server eu-1 --note 'disk is being replaced' --until 2h\n  headgate pause tenant acme --until 2026-12-01T03:00:00Z\n  headgate pause tenant -l 'region = eu and plan = free' --note 'the region is full' --dry-run\n  headgate pause list",
		Args:    many.args(admission.PauseSubjects),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		at, err := parseUntil(until, time.Now())
		if err != nil {
			return err
		}
		opts := &admission.PauseOpts{By: app.Actor(), Note: note, Until: at}
		if many.selecting.Given() {
			return onSelected(ctx, app, &many, pauseColumns, "", "paused %s that %s selects now; tenants that come to be selected later are not paused",
				func(central cli.Central, s selector.Selector, bulk *catalog.SelectedOpts) ([]admission.Pause, error) {
					return central.Admission.PauseSelected(ctx, s, opts, bulk)
				})
		}
		scope := admission.Subject(args[0])
		return app.Open(ctx, nil, func(central cli.Central) error {
			warning := unknownName(ctx, central.Admission, scope, args[1])
			var pause admission.Pause
			err := many.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
				pause, err = central.Admission.PauseTx(ctx, tx, scope, args[1], opts)
				return err
			})
			if err != nil {
				return cli.Near(ctx, central.Admission, scope, args[1], err)
			}
			warn(app, warning)
			defer many.dry.Say(app, "")
			return cli.One(app, pause, pauseColumns)
		})
	})
	cmd.Flags().StringVar(&note, "note", "", "why; `explain` and `pause list` show it")
	cmd.Flags().StringVar(&until, "until", "", "when it ends by itself: a duration from now (90m, 2h) or RFC 3339 (2026-12-01T03:00:00Z); default: never")
	many.flags(cmd)
	cmd.AddCommand(pauseList(app))
	return cmd
}

// parseUntil reads a time, or how far it is from now.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		if d <= 0 {
			return time.Time{}, cli.Usagef("--until: %s is not ahead of now; give a duration such as 2h", cli.Quote(text))
		}
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, cli.Usagef("--until: %s is neither a duration (90m, 2h) nor a time in RFC 3339 form (2026-12-01T03:00:00Z)", cli.Quote(text))
	}
	return at, nil
}

func pauseList(app *cli.App) *cobra.Command {
	var selecting cli.Selecting
	cmd := &cobra.Command{
		Use: "list", Short: "List what is paused: by whom, since when, until when, why", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) (err error) {
			var read selector.Selector
			none := "nothing is paused: `headgate pause tenant|kind|queue|server NAME`"
			if selecting.Given() {
				if read, err = selecting.Read(); err != nil {
					return err
				}
				none = "no tenant that is like that is paused: `headgate pause list` shows all that is"
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, err := cli.All(func(page jobs.Page) ([]admission.Pause, string, error) {
					if selecting.Given() {
						return central.Admission.PausesSelected(ctx, read, page)
					}
					return central.Admission.Pauses(ctx, page)
				})
				if err != nil {
					return err
				}
				return cli.List(app, found, none, pauseColumns)
			})
		}),
	}
	selecting.Flag(cmd, "only tenants that an expression selects, as in 'region = eu and plan = pro'")
	return cmd
}

const resumeLong = `End a pause. Workers are woken at once.

--select ends the pauses of the tenants that an expression selects now, all of them
or none, whoever made them. An archived tenant is selected by no expression; name it.`

// Resume is the verb resume.
func Resume(app *cli.App) *cobra.Command {
	var many selected
	cmd := &cobra.Command{
		Use:   "resume tenant|kind|queue|server NAME | --select EXPR",
		Short: "End a pause; workers are woken at once",
		Long:  resumeLong,
		Args:  many.args(admission.PauseSubjects),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			if many.selecting.Given() {
				return onSelected(ctx, app, &many, pauseColumns, "none of the selected tenants is paused: `headgate pause list` shows what is", "resumed %s of those that %s selects now; their pauses were these",
					func(central cli.Central, s selector.Selector, bulk *catalog.SelectedOpts) ([]admission.Pause, error) {
						return central.Admission.ResumeSelected(ctx, s, bulk)
					})
			}
			scope := admission.Subject(args[0])
			return app.Open(ctx, nil, func(central cli.Central) error {
				var was admission.Pause
				var over error
				err := many.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					if was, err = central.Admission.ResumeTx(ctx, tx, scope, args[1]); errors.Is(err, admission.ErrNotPaused) {
						over, err = err, nil // the row of a pause whose time is up may go
					}
					return err
				})
				err = errors.Join(err, over)
				if errors.Is(err, admission.ErrNotPaused) {
					return fmt.Errorf("%w%s; `headgate pause list` shows what is", err, nearPause(ctx, central, scope, args[1]))
				}
				if err != nil {
					return cli.Near(ctx, central.Admission, scope, args[1], err)
				}
				defer many.dry.Say(app, "")
				if app.Output == "table" {
					return app.Print("%s", resumed(app, was))
				}
				return cli.One(app, was, pauseColumns)
			})
		}),
	}
	many.flags(cmd)
	return cmd
}

// resumed says that a pause is over, and what it was.
func resumed(app *cli.App, was admission.Pause) string {
	note := ""
	if was.Note != "" {
		note = ": " + app.Cell(was.Note)
	}
	return fmt.Sprintf("%s %s is not paused any more; it was paused by %s since %s%s", was.Subject, app.Cell(was.Name), app.Cell(was.By), app.Cell(was.Since), note)
}

// nearPause is the paused name that was probably meant.
func nearPause(ctx context.Context, central cli.Central, scope admission.Subject, name string) string {
	paused, err := cli.All(func(page jobs.Page) ([]admission.Pause, string, error) { return central.Admission.Pauses(ctx, page) })
	if err != nil {
		return ""
	}
	var known []string
	for _, one := range paused {
		if one.Subject == scope {
			known = append(known, one.Name)
		}
	}
	return cli.DidYouMean(cli.Nearest(name, known, "")...)
}
