package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/migrations"
)

func (p *program) migrateCommand() *cobra.Command {
	return group("migrate", "Make or upgrade the tables in the central database", p.migrateUp(), p.migrateStatus())
}

// migratedView is the shape of `migrate up -o json`.
type migratedView struct {
	Applied []string `json:"applied"`
	Version int      `json:"version"`
}

func (p *program) migrateUp() *cobra.Command {
	opts := migrations.UpOpts{Notify: func(sentence string) { p.say("headgate: %s", sentence) }}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply what is missing; of several at once, one applies and the others wait",
		Long: `Apply what is missing, while everything goes on working: a table that is in use
is tried for, briefly, again and again, and who is in the way is told. Of several
that run at once one applies and the others wait.`,
		Args: names(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Wait < time.Second {
				return usagef("--wait is %s: give a second or more", opts.Wait)
			}
			return p.runMigrateUp(cmd.Context(), opts)
		},
	}
	cmd.Flags().DurationVar(&opts.Wait, "wait", 5*time.Minute, "how long to wait for others in all, before it ends with who is in the way")
	return cmd
}

func (p *program) runMigrateUp(ctx context.Context, opts migrations.UpOpts) error {
	conn, err := p.centralConn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // what counts is committed
	applied, err := migrations.Up(ctx, conn, &opts)
	if err != nil {
		return errors.Join(p.printApplied(applied), err)
	}
	status, err := migrations.ReadStatus(ctx, conn)
	if err == nil {
		err = migrations.Check(ctx, conn)
	}
	if err != nil {
		return err
	}
	if p.output != "table" {
		view := migratedView{Applied: append([]string{}, applied...), Version: status.Version}
		return one(p, view, []column[migratedView]{
			{"applied", func(v migratedView) any { return v.Applied }},
			{"version", func(v migratedView) any { return v.Version }},
		})
	}
	if err := p.printApplied(applied); err != nil {
		return err
	}
	if len(applied) == 0 {
		p.say("already current: schema %d", status.Version)
		return nil
	}
	p.say("the central database is at schema %d", status.Version)
	return nil
}

func (p *program) printApplied(applied []string) error {
	if p.output != "table" {
		return nil
	}
	for _, name := range applied {
		if err := p.print("applied %s", name); err != nil {
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

func (p *program) migrateStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say which schema the central database has and which this program needs",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			conn, err := p.centralConn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // only read
			status, err := migrations.ReadStatus(ctx, conn)
			if err != nil {
				return err
			}
			return one(p, viewStatus(status), []column[statusView]{
				{"state", func(s statusView) any { return s.State }},
				{"version", func(s statusView) any { return s.Version }},
				{"program", func(s statusView) any { return s.Program }},
				{"serves", func(s statusView) any { return s.Serves }},
				{"applied_at", func(s statusView) any { return s.AppliedAt }},
				{"pending", func(s statusView) any { return s.Pending }},
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
