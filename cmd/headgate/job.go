package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
)

func (p *program) jobCommand() *cobra.Command {
	return group("job", "Jobs: ask for one, see what became of it, stop or repeat it",
		p.jobEnqueue(), p.jobList(), p.jobShow(), p.jobExplain(), p.jobCancel(), p.jobRetry(), p.jobRerun())
}

// enqueuedView is the shape of `job enqueue -o json`.
type enqueuedView struct {
	UID      string `json:"uid"`
	ID       int64  `json:"id"`
	Kind     string `json:"kind"`
	Tenant   string `json:"tenant,omitempty"`
	Database string `json:"database,omitempty"`
}

var enqueuedColumns = []column[enqueuedView]{
	{"uid", func(e enqueuedView) any { return e.UID }},
	{"id", func(e enqueuedView) any { return e.ID }},
	{"kind", func(e enqueuedView) any { return e.Kind }},
	{"tenant", func(e enqueuedView) any { return e.Tenant }},
	{"database", func(e enqueuedView) any { return e.Database }},
}

// asked is what a job or a schedule is asked for with.
type asked struct {
	tenant, database, args string
	opts                   orchestrator.EnqueueOpts
}

func (a *asked) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.tenant, "tenant", "", "the tenant, by slug, UUID or org_id")
	flags.StringVar(&a.args, "args", "{}", "the arguments: JSON, @FILE, or - for standard input")
	flags.IntVar(&a.opts.Priority, "priority", 0, "1 (first) to 4 (default: the kind's, or 1)")
	flags.StringVar(&a.opts.Queue, "queue", "", "the queue (default: the kind's, or default)")
	flags.IntVar(&a.opts.MaxAttempts, "max-attempts", 0, "how often it is tried (default: the kind's, or 25)")
}

// read turns the text of --args into the arguments of a kind.
func (a *asked) read(ctx context.Context, p *program, kind string) (jobs.Args, error) {
	raw := []byte(a.args)
	var err error
	if file, ok := strings.CutPrefix(a.args, "@"); ok {
		raw, err = p.read(ctx, "--args", file, p.askText)
	} else if a.args == "-" {
		raw, err = p.read(ctx, "--args", "-", p.askText)
	}
	if err != nil {
		return nil, err
	}
	scope := jobs.ScopeTenant
	if a.database != "" {
		scope = jobs.ScopeDatabase
	}
	args, err := p.argsFor(kind, raw, scope)
	if err != nil {
		return nil, err
	}
	return args, nil
}

func (p *program) jobEnqueue() *cobra.Command {
	var a asked
	var runAt string
	cmd := &cobra.Command{
		Use:   "enqueue KIND --tenant TENANT | --database DATABASE",
		Short: "Ask for one job",
		Long: "Ask for one job. It is committed when the command returns 0, and runs as soon as a\nworker has a place for it.\n\n" +
			"Built-in kinds: " + strings.Join(builtinKinds(), ", ") + ".",
		Example: "  headgate job enqueue headgate.purge --tenant acme --args '{\"table\": \"events\", \"column\": \"at\", \"older_than\": \"90d\"}'\n" +
			"  headgate job enqueue headgate.analyze --database acme-db",
		Args: names("KIND"),
	}
	cmd.ValidArgs = builtinKinds()
	cmd.RunE = brief(func(ctx context.Context, args []string) (err error) {
		if (a.tenant == "") == (a.database == "") {
			return usagef("whom is the job for? give one of --tenant and --database")
		}
		if a.opts.RunAt, err = parseRunAt(runAt); err != nil {
			return err
		}
		if err := notZero(cmd, "priority", "max-attempts", "timeout", "queue"); err != nil {
			return err
		}
		return p.enqueue(ctx, args[0], &a)
	})
	a.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&a.database, "database", "", "the database, for kinds that work on a whole one")
	flags.StringVar(&runAt, "run-at", "", "the earliest time to run, RFC 3339: 2026-12-01T03:00:00Z")
	flags.BoolVar(&a.opts.AllowPast, "allow-past", false, "accept a time that is past")
	flags.StringArrayVar(&a.opts.Tags, "tag", nil, "a tag; may be repeated")
	flags.DurationVar(&a.opts.Timeout, "timeout", 0, "the time of one attempt (default: the kind's, or the worker's)")
	return cmd
}

func parseRunAt(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usagef("--run-at: %s is no time of the calendar in RFC 3339 form; write date, time and zone as in 2026-12-01T03:00:00Z", quote(text))
	}
	return at, nil
}

// notZero refuses a flag given as nothing, which the client would take for its
// default.
func notZero(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		flag := cmd.Flags().Lookup(name)
		if value := flag.Value.String(); flag.Changed && (value == "0" || value == "0s" || value == "") {
			return usagef("--%s: %s does not fit; leave it out for the default; %s", name, quote(value), flag.Usage)
		}
	}
	return nil
}

func (p *program) enqueue(ctx context.Context, kind string, a *asked) error {
	args, err := a.read(ctx, p, kind)
	if err != nil {
		return err
	}
	view := enqueuedView{Kind: kind, Tenant: a.tenant, Database: a.database}
	switch scope := jobs.KindOptsOf(args).Scope; {
	case scope == jobs.ScopeDatabase && a.database == "":
		return usagef("kind %s works on a whole database: give --database instead of --tenant", kind)
	case scope == jobs.ScopeTenant && a.tenant == "":
		return usagef("kind %s works for one tenant: give --tenant instead of --database", kind)
	}
	return p.open(ctx, nil, func(r rooms) error {
		var result orchestrator.EnqueueResult
		if a.database != "" {
			result, err = r.client.EnqueueDatabase(ctx, a.database, args, &a.opts)
		} else {
			result, err = r.client.Enqueue(ctx, a.tenant, args, &a.opts)
		}
		if err != nil {
			return badValue(err)
		}
		view.UID, view.ID = result.UID, result.ID
		return one(p, view, enqueuedColumns)
	})
}

var jobColumns = []column[orchestrator.Job]{
	{"id", func(j orchestrator.Job) any { return j.ID }},
	{"uid", func(j orchestrator.Job) any { return j.UID }},
	{"kind", func(j orchestrator.Job) any { return j.Kind }},
	{"state", func(j orchestrator.Job) any { return j.State }},
	{"tenant", func(j orchestrator.Job) any { return j.Tenant }},
	{"database", func(j orchestrator.Job) any { return j.Database }},
	{"attempt", func(j orchestrator.Job) any { return j.Attempt }},
	{"schedule", func(j orchestrator.Job) any { return j.Schedule }},
	{"scheduled_at", func(j orchestrator.Job) any { return j.ScheduledAt }},
	{"finished_at", func(j orchestrator.Job) any { return j.FinishedAt }},
}

func (p *program) jobList() *cobra.Command {
	var filter orchestrator.JobFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs, newest first; finished ones leave the queue after a while",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			if filter.State != "" {
				if err := oneOf("--state", filter.State, orchestrator.States); err != nil {
					return err
				}
			}
			if filter.Limit < 1 || filter.Limit > 1000 {
				return usagef("--limit is %d: give 1 to 1000", filter.Limit)
			}
			return p.open(ctx, nil, func(r rooms) error {
				found, err := r.client.Jobs(ctx, filter)
				if err != nil {
					return err
				}
				return list(p, found, "no such jobs: headgate job enqueue KIND --tenant TENANT makes one", jobColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.State, "state", "", "only those in this state: "+strings.Join(orchestrator.States, ", "))
	flags.StringVar(&filter.Kind, "kind", "", "only those of this kind")
	flags.StringVar(&filter.Tenant, "tenant", "", "only those of this tenant, by slug, UUID or org_id")
	flags.Int64Var(&filter.Before, "before", 0, "only those with a lower number: the next page")
	flags.IntVar(&filter.Limit, "limit", 50, "at most so many, 1 to 1000")
	complete(cmd, "state", orchestrator.States)
	complete(cmd, "kind", builtinKinds())
	return cmd
}

// jobView is the shape of `job show -o json`: attempts are there, if only none.
type jobView struct {
	orchestrator.Job
	Attempts []jobs.Outcome `json:"attempts"`
}

func (p *program) jobShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show UID|NUMBER",
		Short: "Show one job, its attempts and why they failed",
		Args:  names("UID|NUMBER"),
		RunE: brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				job, err := r.client.Job(ctx, args[0])
				if err != nil {
					return err
				}
				return p.showJob(job)
			})
		}),
	}
}

var attemptColumns = []column[jobs.Outcome]{
	{"attempt", func(o jobs.Outcome) any { return o.Attempt }},
	{"state", func(o jobs.Outcome) any { return string(o.State) }},
	{"class", func(o jobs.Outcome) any { return string(o.Class) }},
	{"started_at", func(o jobs.Outcome) any { return o.StartedAt }},
	{"took", func(o jobs.Outcome) any { return o.EndedAt.Sub(o.StartedAt).Round(time.Millisecond).String() }},
	{"rows", func(o jobs.Outcome) any { return o.Result.Rows }},
	{"message", func(o jobs.Outcome) any { return strings.TrimSpace(o.Message + " " + o.Result.Output) }},
}

func (p *program) showJob(job orchestrator.Job) error {
	if p.output != "table" {
		return one(p, jobView{Job: job, Attempts: append([]jobs.Outcome{}, job.Attempts...)}, jobViewColumns())
	}
	t := newTable()
	for _, line := range []struct {
		name  string
		value any
	}{
		{"uid", job.UID}, {"id", job.ID}, {"kind", job.Kind}, {"state", job.State}, {"tenant", job.Tenant}, {"database", job.Database},
		{"queue", job.Queue}, {"priority", job.Priority}, {"attempt", plain(job.Attempt) + " of " + plain(job.MaxAttempts)},
		{"schedule", job.Schedule}, {"args", compact(job.Args)}, {"tags", job.Tags},
		{"enqueued", job.EnqueuedAt}, {"due", job.ScheduledAt}, {"finished", job.FinishedAt},
	} {
		t.AppendRow([]any{line.name, p.tableCell(line.value)})
	}
	if err := p.print("%s\n", t.Render()); err != nil {
		return err
	}
	return list(p, job.Attempts, "no attempt has ended yet", attemptColumns)
}

func jobViewColumns() []column[jobView] {
	columns := make([]column[jobView], len(jobColumns))
	for i, c := range jobColumns {
		columns[i] = column[jobView]{c.name, func(v jobView) any { return c.of(v.Job) }}
	}
	return columns
}

func compact(raw json.RawMessage) string {
	const most = 200
	if text := string(raw); len(text) <= most {
		return text
	}
	return cutTo(string(raw), most) + " (-o json shows all)"
}
