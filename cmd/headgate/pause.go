package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

var pauseColumns = []column[orchestrator.Pause]{
	{"scope", func(p orchestrator.Pause) any { return string(p.Scope) }},
	{"name", func(p orchestrator.Pause) any { return p.Name }},
	{"by", func(p orchestrator.Pause) any { return p.By }},
	{"since", func(p orchestrator.Pause) any { return p.Since }},
	{"until", func(p orchestrator.Pause) any { return p.Until }},
	{"note", func(p orchestrator.Pause) any { return p.Note }},
}

const pauseLong = `Let nothing more start of a tenant, a kind or a queue, or of what lives on a
server, until it is resumed or --until comes. What runs goes on; what waits uses
no attempt, and keeps nobody else waiting. All worker processes follow within a
second. Doing it again changes the note and the time.`

func (p *program) pauseCommand() *cobra.Command {
	var note, until string
	cmd := &cobra.Command{
		Use:     "pause tenant|kind|queue|server NAME [--note TEXT] [--until TIME]",
		Short:   "Let nothing more start of a tenant, kind, queue or server",
		Long:    pauseLong,
		Example: "  headgate pause server eu-1 --note 'disk is being replaced' --until 2h\n  headgate pause tenant acme --until 2026-12-01T03:00:00Z\n  headgate pause list",
		Args:    scopeArgs(orchestrator.PauseScopes), ValidArgsFunction: p.completeScope(orchestrator.PauseScopes),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		at, err := parseUntil(until, time.Now())
		if err != nil {
			return err
		}
		scope := orchestrator.Scope(args[0])
		return p.open(ctx, nil, func(r rooms) error {
			pause, err := r.client.Pause(ctx, scope, args[1], &orchestrator.PauseOpts{By: p.env("USER"), Note: note, Until: at})
			if err != nil {
				return near(ctx, r.client, scope, args[1], err)
			}
			p.warnUnknown(ctx, r.client, scope, pause.Name)
			return one(p, pause, pauseColumns)
		})
	})
	cmd.Flags().StringVar(&note, "note", "", "why; `explain` and `pause list` show it")
	cmd.Flags().StringVar(&until, "until", "", "when it ends by itself: a duration from now (90m, 2h) or RFC 3339 (2026-12-01T03:00:00Z); default: never")
	cmd.AddCommand(p.pauseList())
	return cmd
}

// parseUntil reads a time, or how far it is from now.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		if d <= 0 {
			return time.Time{}, usagef("--until: %s is not ahead of now; give a duration such as 2h", quote(text))
		}
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usagef("--until: %s is neither a duration (90m, 2h) nor a time in RFC 3339 form (2026-12-01T03:00:00Z)", quote(text))
	}
	return at, nil
}

func (p *program) pauseList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what is paused: by whom, since when, until when, why", Args: names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				found, err := r.client.Pauses(ctx)
				if err != nil {
					return err
				}
				return list(p, found, "nothing is paused: headgate pause tenant|kind|queue|server NAME", pauseColumns)
			})
		}),
	}
}

func (p *program) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume tenant|kind|queue|server NAME",
		Short: "End a pause; workers are woken at once",
		Args:  scopeArgs(orchestrator.PauseScopes), ValidArgsFunction: p.completeScope(orchestrator.PauseScopes),
		RunE: brief(func(ctx context.Context, args []string) error {
			scope := orchestrator.Scope(args[0])
			return p.open(ctx, nil, func(r rooms) error {
				was, err := r.client.Resume(ctx, scope, args[1])
				if errors.Is(err, orchestrator.ErrNotPaused) {
					return fmt.Errorf("%w%s; `headgate pause list` shows what is", err, p.nearPause(ctx, r, scope, args[1]))
				}
				if err != nil {
					return near(ctx, r.client, scope, args[1], err)
				}
				return one(p, was, pauseColumns)
			})
		}),
	}
}

// nearPause is the paused name that was probably meant.
func (p *program) nearPause(ctx context.Context, r rooms, scope orchestrator.Scope, name string) string {
	paused, err := r.client.Pauses(ctx)
	if err != nil {
		return ""
	}
	var known []string
	for _, one := range paused {
		if one.Scope == scope {
			known = append(known, one.Name)
		}
	}
	return didYouMean(nearest(name, known, "")...)
}
