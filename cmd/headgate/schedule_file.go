package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// scheduleFile is the shape of schedules.yaml.
type scheduleFile struct {
	Name      string              `yaml:"name"`
	Calendars map[string][]string `yaml:"calendars"`
	Schedules []fileSchedule      `yaml:"schedules"`
}

type fileSchedule struct {
	Name        string            `yaml:"name"`
	Select      yaml.Node         `yaml:"select"` // all, or a map of terms
	Kind        string            `yaml:"kind"`
	Args        map[string]any    `yaml:"args"`
	Queue       string            `yaml:"queue"`
	Priority    int               `yaml:"priority"`
	MaxAttempts int               `yaml:"max_attempts"`
	Cron        string            `yaml:"cron"`
	Zone        string            `yaml:"zone"`
	Gap         string            `yaml:"gap"`
	Repeat      string            `yaml:"repeat"`
	Start       *time.Time        `yaml:"start"`
	End         *time.Time        `yaml:"end"`
	Max         int               `yaml:"max"`
	Calendars   []string          `yaml:"calendars"`
	Windows     []string          `yaml:"windows"`
	Spread      duration          `yaml:"spread"`
	Overlap     string            `yaml:"overlap"`
	BufferMax   int               `yaml:"buffer_max"`
	CatchUp     fileCatchUp       `yaml:"catch_up"`
	PauseAfter  int               `yaml:"pause_after"`
	Maintenance bool              `yaml:"maintenance"`
	Overrides   map[string]fileOv `yaml:"overrides"` // by tenant
}

type fileCatchUp struct {
	Policy string   `yaml:"policy"`
	Max    int      `yaml:"max"`
	Window duration `yaml:"window"`
}

type fileOv struct {
	Cron string         `yaml:"cron"`
	Zone string         `yaml:"zone"`
	Args map[string]any `yaml:"args"`
}

// duration is written 10m or 72h.
type duration int

// UnmarshalYAML is called by yaml.
func (d *duration) UnmarshalYAML(node *yaml.Node) error {
	value, err := time.ParseDuration(node.Value)
	if err != nil || value%time.Second != 0 {
		return fmt.Errorf("line %d: %s is no duration in whole seconds: write 10m or 72h", node.Line, quote(node.Value))
	}
	*d = duration(value / time.Second)
	return nil
}

// readScheduleFile reads schedules.yaml, strictly: a field that nobody knows is a
// mistake.
func (p *program) readScheduleFile(path, actor string) (orchestrator.ScheduleFile, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the user's own choice
	if err != nil {
		return orchestrator.ScheduleFile{}, usagef("--file: %w", err)
	}
	const most = 4 << 20
	if len(text) > most {
		return orchestrator.ScheduleFile{}, usagef("--file: %s has %d bytes, at most %d", path, len(text), most)
	}
	var in scheduleFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return orchestrator.ScheduleFile{}, usagef("%s: %w", path, err)
	}
	if in.Name == "" {
		return orchestrator.ScheduleFile{}, usagef("%s: name is missing: what this file calls itself, so that it deletes only what is its own", path)
	}
	file := orchestrator.ScheduleFile{Name: in.Name, Actor: actor, Calendars: map[string][]calendar.DayRange{}}
	for name, days := range in.Calendars {
		file.Calendars[name] = calendarDays(days)
	}
	for i, s := range in.Schedules {
		params, err := p.fleetOf(s)
		if err != nil {
			return file, usagef("%s: schedule %d (%s): %w", path, i+1, s.Name, err)
		}
		file.Fleets = append(file.Fleets, params)
	}
	return file, nil
}

func (p *program) fleetOf(s fileSchedule) (params orchestrator.FleetParams, err error) {
	params = orchestrator.FleetParams{Name: s.Name, Cron: s.Cron, Zone: s.Zone, Policy: orchestrator.SchedulePolicy{
		Gap: calendar.Gap(s.Gap), Repeat: calendar.Repeat(s.Repeat), Start: s.Start, End: s.End, Max: s.Max, Calendars: s.Calendars, Windows: s.Windows,
		Spread: int(s.Spread), Overlap: orchestrator.Overlap(s.Overlap), BufferMax: s.BufferMax,
		CatchUp: orchestrator.CatchUp(s.CatchUp.Policy), CatchUpMax: s.CatchUp.Max, CatchUpWindow: int(s.CatchUp.Window), PauseAfter: s.PauseAfter, Maintenance: s.Maintenance,
	}}
	if s.Kind == "" || s.Cron == "" {
		return params, errors.New("kind and cron are needed")
	}
	if params.Select, err = selectorOf(&s.Select); err != nil {
		return params, err
	}
	if params.Args, err = p.fileArgs(s.Kind, s.Args); err != nil {
		return params, err
	}
	params.Opts = &orchestrator.EnqueueOpts{Queue: s.Queue, Priority: s.Priority, MaxAttempts: s.MaxAttempts}
	for tenant, o := range s.Overrides {
		override := orchestrator.FleetOverride{Tenant: tenant, Cron: o.Cron, Zone: o.Zone}
		if o.Args != nil {
			args, err := p.fileArgs(s.Kind, o.Args)
			if err != nil {
				return params, fmt.Errorf("override for %s: %w", tenant, err)
			}
			if override.Args, err = json.Marshal(args); err != nil {
				return params, err
			}
		}
		params.Overrides = append(params.Overrides, override)
	}
	return params, nil
}

// fileArgs are arguments as the kind takes them.
func (p *program) fileArgs(kind string, args map[string]any) (jobs.Args, error) {
	if args == nil {
		args = map[string]any{}
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return p.argsFor(kind, raw, jobs.ScopeTenant)
}

// selectorOf reads `select: all`, `select: {plan: pro, label.tier: gold}` or a
// list of terms.
func selectorOf(node *yaml.Node) (orchestrator.Selector, error) {
	var terms []string
	switch node.Kind {
	case yaml.ScalarNode:
		terms = strings.Fields(node.Value)
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			terms = append(terms, node.Content[i].Value+"="+node.Content[i+1].Value)
		}
	case yaml.SequenceNode:
		for _, item := range node.Content {
			terms = append(terms, item.Value)
		}
	default:
		return nil, errors.New("select is missing: write all, or terms such as {plan: pro, label.tier: gold}")
	}
	return orchestrator.ParseSelector(terms)
}

var planColumns = []column[orchestrator.PlanStep]{
	{"action", func(s orchestrator.PlanStep) any { return s.Action }},
	{"what", func(s orchestrator.PlanStep) any { return s.What }},
	{"name", func(s orchestrator.PlanStep) any { return s.Name }},
	{"select", func(s orchestrator.PlanStep) any { return s.Select }},
	{"tenants", func(s orchestrator.PlanStep) any { return s.Now }},
	{"fields", func(s orchestrator.PlanStep) any { return s.Fields }},
}

func (p *program) schedulePlan() *cobra.Command {
	return p.fileCommand("plan", "Say what applying a file of schedules would do", func(ctx context.Context, r rooms, file orchestrator.ScheduleFile) error {
		steps, err := r.client.PlanSchedules(ctx, file)
		if err != nil {
			return badValue(err)
		}
		return list(p, steps, "nothing: the database is as the file says", planColumns)
	})
}

func (p *program) scheduleApply() *cobra.Command {
	var confirm confirmation
	cmd := p.fileCommand("apply", "Make the schedules what a file says, in one transaction", func(ctx context.Context, r rooms, file orchestrator.ScheduleFile) error {
		file.Confirm = confirm.check("the file " + file.Name + " changes schedules of")
		return p.confirmed(ctx, &confirm, func() error {
			steps, err := r.client.ApplySchedules(ctx, file)
			if err != nil {
				return badValue(err)
			}
			return list(p, steps, "nothing to do: the database was as the file says", planColumns)
		})
	})
	confirm.flags(cmd)
	return cmd
}

// driftView is one thing that is otherwise than the file says.
type driftView struct {
	Schedule string `json:"schedule"`
	Tenant   string `json:"tenant,omitempty"` // of a tenant's own row
	Is       string `json:"is"`
}

var driftColumns = []column[driftView]{
	{"schedule", func(v driftView) any { return v.Schedule }},
	{"tenant", func(v driftView) any { return v.Tenant }},
	{"is", func(v driftView) any { return v.Is }},
}

func (p *program) scheduleDrift() *cobra.Command {
	return p.fileCommand("drift", "Say what is otherwise than a file says; exit 1 if anything is", func(ctx context.Context, r rooms, file orchestrator.ScheduleFile) error {
		steps, rows, err := r.client.DriftOf(ctx, file)
		if err != nil {
			return badValue(err)
		}
		var views []driftView
		for _, s := range steps {
			is := map[string]string{"add": "missing", "delete": "not in the file", "change": "changed: " + strings.Join(s.Fields, "; ")}[s.Action]
			views = append(views, driftView{Schedule: s.Name, Is: is})
		}
		for _, row := range rows {
			views = append(views, driftView(row))
		}
		if err := list(p, views, "no drift: the database is as the file says", driftColumns); err != nil || len(views) == 0 {
			return err
		}
		return fmt.Errorf("%d differences from the file; `headgate schedule apply` puts right what is not paused or in error by itself", len(views))
	})
}

func (p *program) fileCommand(verb, short string, work func(context.Context, rooms, orchestrator.ScheduleFile) error) *cobra.Command {
	var path string
	var o owner
	cmd := &cobra.Command{
		Use: verb + " -f schedules.yaml", Short: short, Args: names(),
		Example: "  headgate schedule " + verb + " -f schedules.yaml",
	}
	cmd.RunE = brief(func(ctx context.Context, _ []string) error {
		if err := required(cmd, "file"); err != nil {
			return err
		}
		file, err := p.readScheduleFile(path, o.actor)
		if err != nil {
			return err
		}
		return p.open(ctx, nil, func(r rooms) error { return work(ctx, r, file) })
	})
	cmd.Flags().StringVarP(&path, "file", "f", "", "the file of schedules")
	o.actorFlag(p, cmd)
	return cmd
}
