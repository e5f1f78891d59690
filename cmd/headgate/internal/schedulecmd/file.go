package schedulecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
)

// scheduleFile is the shape of schedules.yaml, and of each document in it.
type scheduleFile struct {
	Name      string              `yaml:"name"`
	Calendars map[string][]string `yaml:"calendars"`
	Schedules []fileSchedule      `yaml:"schedules"`
}

type fileSchedule struct {
	Line        int           // where it begins
	Name        string        `yaml:"name"`
	Select      fileSelector  `yaml:"select"`
	Kind        string        `yaml:"kind"`
	Args        fileArgs      `yaml:"args"`
	Queue       string        `yaml:"queue"`
	Priority    int           `yaml:"priority"`
	MaxAttempts int           `yaml:"max_attempts"`
	Cron        string        `yaml:"cron"`
	Zone        string        `yaml:"zone"`
	Gap         string        `yaml:"gap"`
	Repeat      string        `yaml:"repeat"`
	Start       yamlTime      `yaml:"start"`
	End         yamlTime      `yaml:"end"`
	Max         int           `yaml:"max"`
	Calendars   []string      `yaml:"calendars"`
	Windows     []string      `yaml:"windows"`
	Spread      yamlDuration  `yaml:"spread"`
	Overlap     string        `yaml:"overlap"`
	BufferMax   int           `yaml:"buffer_max"`
	CatchUp     fileCatchUp   `yaml:"catch_up"`
	PauseAfter  int           `yaml:"pause_after"`
	Brand       *int          `yaml:"brand"`
	Maintenance bool          `yaml:"maintenance"`
	Overrides   fileOverrides `yaml:"overrides"` // by tenant
}

type fileCatchUp struct {
	Policy string       `yaml:"policy"`
	Max    int          `yaml:"max"`
	Window yamlDuration `yaml:"window"`
}

type fileOverride struct {
	Line   int
	Tenant string   // its key
	Cron   string   `yaml:"cron"`
	Zone   string   `yaml:"zone"`
	Args   fileArgs `yaml:"args"`
}

// fileOverrides are in the order of the file.
type fileOverrides []fileOverride

func (o *fileOverrides) readYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return atLine(node, "overrides: want a mapping of tenants, as in {acme: {cron: '0 6 * * *'}}")
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		override := fileOverride{Tenant: key.Value}
		if err := readYAML(node.Content[i+1], &override); err != nil {
			return err
		}
		if override.Cron == "" && override.Zone == "" && override.Args == nil {
			return atLine(key, "the override for %s changes nothing: give cron, zone or args", cli.Quote(key.Value))
		}
		override.Line = key.Line
		*o = append(*o, override)
	}
	return nil
}

// fileArgs are arguments as the JSON that the file's literals make; nil where there
// are none.
type fileArgs []byte

func (a *fileArgs) readYAML(node *yaml.Node) (err error) {
	if node.Kind != yaml.MappingNode {
		return atLine(node, "args: want a mapping, as in {table: events}")
	}
	*a, err = yamlJSON(node)
	return err
}

// fileSelector is an expression, in one text.
type fileSelector struct {
	selector.Selector
	given bool
}

func (s *fileSelector) readYAML(node *yaml.Node) (err error) {
	if node.Kind != yaml.ScalarNode {
		return atLine(node, "select: want an expression in one text, as in select: plan = pro and region = eu; all tenants are all")
	}
	s.given = true
	if s.Selector, err = selector.Parse(node.Value); err != nil {
		return atLine(node, "select: %w", err)
	}
	return nil
}

// maxScheduleFile bounds a file of schedules, in bytes. 20,000 schedules of 400 bytes
// are half of it.
const maxScheduleFile = 16 << 20

// readScheduleFile reads schedules.yaml, or standard input for "-": all of it, its
// documents being parts of one file.
func readScheduleFile(ctx context.Context, app *cli.App, path, actor string) (file schedule.File, err error) {
	text, err := scheduleText(ctx, app, path)
	if err != nil {
		return file, err
	}
	in, err := parseScheduleFile(text)
	if err != nil {
		return file, cli.Usagef("%s: %w", path, err)
	}
	file = schedule.File{Name: in.Name, Actor: actor, Calendars: map[string][]calendar.DayRange{}}
	for name, days := range in.Calendars {
		file.Calendars[name] = calendarDays(days)
	}
	for i := range in.Schedules {
		s := &in.Schedules[i]
		params, err := templateOf(app, s)
		if err != nil {
			return file, cli.Usagef("%s: line %d: schedule %s: %w", path, s.Line, cli.Quote(s.Name), err)
		}
		file.Templates = append(file.Templates, params)
	}
	return file, nil
}

func scheduleText(ctx context.Context, app *cli.App, path string) ([]byte, error) {
	if path == "-" {
		return app.Read(ctx, "--file", path, func(flag string) ([]byte, error) { return cli.ReadUpTo(flag, app.Stdin, maxScheduleFile) })
	}
	in, err := os.Open(path) //nolint:gosec // the user's own choice
	if err != nil {
		return nil, cli.Usagef("--file: the file %s cannot be read: %w", cli.Quote(path), cli.Cause(err))
	}
	defer func() { _ = in.Close() }() // it was only read
	return cli.ReadUpTo("--file", in, maxScheduleFile)
}

// parseScheduleFile reads all documents of a text as one file.
func parseScheduleFile(text []byte) (whole scheduleFile, err error) {
	documents, err := yamlDocuments(text)
	if err != nil {
		return whole, err
	}
	whole.Calendars = map[string][]string{}
	for _, document := range documents {
		var part scheduleFile
		if err := readYAML(document, &part); err != nil {
			return whole, err
		}
		if part.Name != "" && whole.Name != "" && part.Name != whole.Name {
			return whole, atLine(document, "this document is named %s, and one before it %s: all documents of a file are one file, with one name", cli.Quote(part.Name), cli.Quote(whole.Name))
		}
		whole.Name = cmp.Or(whole.Name, part.Name)
		for name, days := range part.Calendars {
			if _, twice := whole.Calendars[name]; twice {
				return whole, atLine(document, "calendar %s is in the file twice", cli.Quote(name))
			}
			whole.Calendars[name] = days
		}
		whole.Schedules = append(whole.Schedules, part.Schedules...)
	}
	if whole.Name == "" {
		return whole, errors.New("name is missing: what this file calls itself, so that it deletes only what is its own")
	}
	return whole, nil
}

func templateOf(app *cli.App, s *fileSchedule) (params schedule.TemplateParams, err error) {
	params = schedule.TemplateParams{Name: s.Name, Select: s.Select.Selector, Spec: specOf(s)}
	switch {
	case s.Kind == "" || s.Cron == "":
		return params, errors.New("kind and cron are needed")
	case !s.Select.given:
		return params, errors.New("select is missing: write all, or an expression such as plan = pro and label.tier = gold")
	}
	if params.Args, err = argsOfFile(app, s.Kind, s.Args); err != nil {
		return params, err
	}
	for _, o := range s.Overrides {
		override := schedule.Override{Tenant: o.Tenant, Cron: o.Cron, Zone: o.Zone}
		if o.Args != nil {
			args, err := argsOfFile(app, s.Kind, o.Args)
			if err == nil {
				override.Args, err = wire.EncodeArgs(args)
			}
			if err != nil {
				return params, fmt.Errorf("line %d: override for %s: %w", o.Line, cli.Cut(o.Tenant), err)
			}
		}
		params.Overrides = append(params.Overrides, override)
	}
	return params, nil
}

// specOf is what a file says of one schedule, but for its kind and arguments.
func specOf(s *fileSchedule) schedule.Spec {
	return schedule.Spec{
		Queue: s.Queue, Priority: s.Priority, MaxAttempts: s.MaxAttempts, Cron: s.Cron, Zone: s.Zone, Brand: s.Brand, Policy: schedule.Policy{
			Gap: calendar.Gap(s.Gap), Repeat: calendar.Repeat(s.Repeat), Start: s.Start.at, End: s.End.at, Max: s.Max, Calendars: s.Calendars, Windows: s.Windows,
			Spread: time.Duration(s.Spread), Overlap: schedule.Overlap(s.Overlap), BufferMax: s.BufferMax,
			CatchUp: schedule.CatchUp(s.CatchUp.Policy), CatchUpMax: s.CatchUp.Max, CatchUpWindow: time.Duration(s.CatchUp.Window), PauseAfter: s.PauseAfter, Maintenance: s.Maintenance,
		},
	}
}

// argsOfFile are arguments as the kind takes them.
func argsOfFile(app *cli.App, kind string, args fileArgs) (jobs.Args, error) {
	if args == nil {
		args = fileArgs("{}")
	}
	return kinds.Args(app, kind, args, jobs.ScopeTenant)
}
