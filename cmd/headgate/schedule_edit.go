package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

const editLong = `Change a schedule. What is not given stays. A firing is either before the edit or
after it, never half of both. A schedule in error is set going again.

With --fleet it is the schedule for a selector of that name, and with it those of
all its tenants.`

// editing is what schedule edit was asked for.
type editing struct {
	owner
	policyFlags
	cmd              *cobra.Command
	kind, args, note string
	version          int
	fleet            bool
	selector         []string
	confirm          confirmation
}

func (p *program) scheduleEdit() *cobra.Command {
	var e editing
	cmd := &cobra.Command{
		Use:     "edit NAME --tenant TENANT | --database DATABASE | --fleet",
		Short:   "Change a schedule; what is not given stays",
		Long:    editLong,
		Example: "  headgate schedule edit nightly --tenant acme --cron '0 4 * * *' --overlap buffer_one\n  headgate schedule edit nightly --fleet --select plan=pro --confirm 120",
		Args:    names("NAME"),
	}
	e.cmd = cmd
	single := p.onSchedule(&e.owner, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		return p.editSchedule(ctx, r, of, &e)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !e.fleet && len(e.selector) > 0:
			return usagef("--select is for the schedule of a selector: give --fleet with it")
		case !e.fleet:
			return single(cmd, args)
		}
		return p.onFleet(&e.owner, func(ctx context.Context, r rooms, name string) error { return p.editFleet(ctx, r, name, &e) })(cmd, args)
	}
	e.owner.flags(cmd)
	e.actorFlag(p, cmd)
	e.policyFlags.flags(cmd)
	e.confirm.flags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&e.fleet, "fleet", false, "the schedule for a selector of that name, and those of all its tenants")
	flags.StringArrayVar(&e.selector, "select", nil, "with --fleet: for all tenants that equal it from now on; may be repeated")
	flags.StringVar(&e.zone, "zone", "", "the IANA time zone")
	flags.StringVar(&e.kind, "kind", "", "the kind of its jobs")
	flags.StringVar(&e.args, "args", "", "the arguments: JSON, @FILE, or - for standard input")
	flags.StringVar(&e.note, "note", "", "why, for the record of changes")
	flags.IntVar(&e.version, "version", 0, "only change the schedule if it has this version")
	return cmd
}

func (p *program) editSchedule(ctx context.Context, r rooms, of orchestrator.ScheduleOf, e *editing) error {
	edit, err := e.read(ctx, p, func() (string, []byte, error) {
		s, err := r.client.GetSchedule(ctx, of)
		return s.Kind, s.Args, err
	})
	if err != nil {
		return err
	}
	s, err := r.client.EditSchedule(ctx, of, edit)
	if err != nil {
		return err
	}
	p.announce(ctx, r, s)
	return one(p, s, scheduleColumns)
}

func (p *program) editFleet(ctx context.Context, r rooms, name string, e *editing) error {
	change, err := e.read(ctx, p, func() (string, []byte, error) {
		f, err := r.client.GetFleet(ctx, name)
		return f.Kind, f.Args, err
	})
	if err != nil {
		return err
	}
	edit := orchestrator.FleetEdit{ScheduleEdit: change, Confirm: e.confirm.check("fleet schedule " + name + " is for")}
	if len(e.selector) > 0 {
		parsed, err := orchestrator.ParseSelector(e.selector)
		if err != nil {
			return usagef("--select: %w", err)
		}
		edit.Select, edit.Confirm = &parsed, e.confirm.check(parsed.String()+" matches")
	}
	return p.confirmed(ctx, &e.confirm, func() error {
		after, err := r.client.EditFleet(ctx, name, edit)
		if err != nil {
			return err
		}
		return one(p, after, fleetColumns)
	})
}

// read makes the edit of what was given; now says what the schedule's kind and
// arguments are, which is asked only where one of them is given without the other.
func (e *editing) read(ctx context.Context, p *program, now func() (kind string, args []byte, err error)) (edit orchestrator.ScheduleEdit, err error) {
	flags := e.cmd.Flags()
	edit = orchestrator.ScheduleEdit{Cron: e.cron, Zone: e.zone, Version: e.version, Actor: e.actor, Note: e.note}
	if err := notZero(e.cmd, "cron", "zone", "kind", "version"); err != nil {
		return edit, err
	}
	if err := e.apply(flags, &orchestrator.SchedulePolicy{}); err != nil {
		return edit, err
	}
	edit.Policy = func(policy *orchestrator.SchedulePolicy) { _ = e.apply(flags, policy) } // it has just been read
	if !flags.Changed("args") && !flags.Changed("kind") {
		return edit, nil
	}
	kind, args, err := now()
	if err != nil {
		return edit, err
	}
	if !flags.Changed("args") {
		e.args = string(args)
	}
	a := asked{tenant: e.tenant, database: e.database, args: e.args}
	edit.Args, err = a.read(ctx, p, cmp.Or(e.kind, kind))
	return edit, err
}
