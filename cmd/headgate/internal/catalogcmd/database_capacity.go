package catalogcmd

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/capacity"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const databaseCapacityLong = `Find out how many tenants a shared database can hold: copy it on its server, run the
jobs of more and more made-up tenants in the copy, and drop the copy.

Each step has twice the tenants of the one before, and lasts --for. Its jobs come at
random moments, --jobs-per-tenant-hour for each tenant, and a worker of this process
runs them as any worker does. A step is good if no job failed, 95 % of the jobs ended
within --p95 of the moment when they were due, and no more of them were left at the end
than come in that time. The last good step less --margin percent is what the command
proposes; --set writes it as the database's max_tenants.

This is load. The copy takes the disk space of the database and, on a production
server, the time of what else runs there. The test and the workers together stay within
the server's connection budget, and the workers come first. The queue is in a private
Postgres on this machine.

Postgres copies only a database that nobody is connected to. Restore a backup beside and
name it with --template, or test a server of the same size.

--mix has weights of report (reads all rows of a tenant), write (inserts one) and
maintenance (deletes three), which use a table of their own in the copy. --sql FILE adds
SQL of yours under the file's name, to run as headgate.sql: headgate.current_org() is
the tenant, and tenants have the org_ids from --first-org on.

An administrator's address is used once and never stored: HEADGATE_ADMIN_URL,
HEADGATE_ADMIN_URL_FILE or --admin-url-file. The login must have CREATEDB, and rights of
the template's owner. Interrupt the command at any time: it drops the copy. What a
killed one has left the next one on that server drops, and so does --clean.`

const databaseCapacityExample = `  headgate database capacity shared-1 --template shared_1_backup
  headgate database capacity shared-1 --template shared_1_backup --mix report=6,write=3,nightly=1 --sql nightly.sql --set`

// measuring is one `database capacity`.
type measuring struct {
	plan      capacity.Plan
	template  string
	conns     int
	mix       string
	sql       []string
	adminFile string
	set       bool
	clean     bool
}

func databaseCapacity(app *cli.App) *cobra.Command {
	var m measuring
	cmd := &cobra.Command{
		Use:     "capacity NAME [--template DBNAME] [--set]",
		Short:   "Find by a load test how many tenants a shared database can hold",
		Long:    databaseCapacityLong,
		Example: databaseCapacityExample,
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := m.check(app, cmd); err != nil {
			return err
		}
		limit := m.plan.Longest()
		return cli.Within(&limit, "; the copy is dropped, or `headgate database capacity "+args[0]+" --clean` drops it", func(ctx context.Context, args []string) error {
			return m.open(ctx, app, args[0])
		})(cmd, args)
	}
	f, p := cmd.Flags(), &m.plan
	f.StringVar(&m.template, "template", "", "the database on the same server that is copied (default: the database itself)")
	cli.IntIn(f, &p.First, "first", 10, 1, 100_000, "tenants in the first step, 1 to 100000")
	cli.IntIn(f, &p.Most, "most", 640, 1, 100_000, "tenants in the last step, 1 to 100000")
	cli.DurationIn(f, &p.For, "for", 30*time.Second, time.Second, time.Hour, "how long each step lasts, 1s to 1h")
	f.Float64Var(&p.PerHour, "jobs-per-tenant-hour", 60, "jobs of each tenant in an hour, 0.001 to 1000000")
	f.StringVar(&m.mix, "mix", "", "which jobs, as NAME=WEIGHT,… (default "+capacity.DefaultMix+"; with --sql its files in equal parts)")
	f.StringArrayVar(&m.sql, "sql", nil, "a file with one SQL statement, which --mix names without its extension; may be repeated")
	cli.IntIn(f, &p.FirstOrg, "first-org", 1, 1, 1e12, "the org_id of the first tenant, 1 to 1000000000000; the others have those that follow")
	cli.IntIn(f, &p.Rows, "rows", 1000, 0, 1_000_000, "rows of each tenant in the table of the built-in jobs, 0 to 1000000")
	cli.DurationIn(f, &p.P95, "p95", 500*time.Millisecond, time.Millisecond, time.Hour, "a step is good if 95 % of the jobs end in this time, 1ms to 1h")
	cli.IntIn(f, &p.Margin, "margin", 20, 0, 90, "percent of the last good step that are left free, 0 to 90")
	cli.IntIn(f, &m.conns, "connections", 0, capacity.LeastConns, 10_000, "connections that the test has at most, of which two are not the worker's (default: what the server's workers leave of its budget)")
	f.BoolVar(&m.set, "set", false, "write what is found as the database's max_tenants")
	f.BoolVar(&m.clean, "clean", false, "only drop the copies that killed tests have left on the server")
	f.StringVar(&m.adminFile, "admin-url-file", "", "the file with the administrator's address, - for standard input (else HEADGATE_ADMIN_URL, HEADGATE_ADMIN_URL_FILE)")
	return cmd
}

// check refuses what no test can be made of, before anything is asked.
func (m *measuring) check(app *cli.App, cmd *cobra.Command) (err error) {
	p := &m.plan
	if !cmd.Flags().Changed("first") {
		p.First = min(p.First, max(p.Most, 1))
	}
	if m.clean && m.set {
		return cli.Usagef("--clean finds nothing out that --set could write: give one of them")
	}
	if p.First > p.Most {
		return cli.Usagef("--first is %d: give 1 to --most tenants", p.First)
	}
	if !(p.PerHour >= 0.001 && p.PerHour <= 1_000_000) { // NaN too
		return cli.Usagef("--jobs-per-tenant-hour is %v: give 0.001 to 1000000", p.PerHour)
	}
	if jobs := p.Offered(p.Most); jobs > capacity.MaxJobs {
		return cli.Usagef("the last step would have %d jobs, and at most %d are allowed: give a shorter --for, a lower --most or a lower --jobs-per-tenant-hour", jobs, capacity.MaxJobs)
	}
	own := map[string]string{}
	for _, file := range m.sql {
		text, err := app.Read(cmd.Context(), "--sql", file, app.AskText)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		if _, twice := own[name]; twice {
			return cli.Usagef("--sql: two files are called %s: give each a name of its own", cli.Quote(name))
		}
		own[name] = string(text)
	}
	p.Mix, err = capacity.ParseMix(m.mix, own)
	return err
}

func (m *measuring) open(ctx context.Context, app *cli.App, name string) error {
	ring, err := app.Keys()
	if err != nil {
		return err
	}
	return app.Open(ctx, ring, func(central cli.Central) error {
		database, err := cli.FindDatabase(ctx, central.Catalog, name)
		if err != nil {
			return err
		}
		if database.Kind != catalog.KindShared {
			return cli.Usagef("database %s is dedicated and holds one tenant: there is nothing to find out", database.Name)
		}
		run, err := m.run(ctx, app, central, database)
		if err != nil {
			return err
		}
		if m.clean {
			dropped, err := run.Clean(ctx)
			if err == nil && len(dropped) == 0 {
				app.Say("no test has left a copy on server %s", run.Server.Name)
			}
			return err
		}
		return m.measure(ctx, app, central, database, run)
	})
}

// run has what the test needs to know of the catalog, which learns nothing of the test.
func (m *measuring) run(ctx context.Context, app *cli.App, central cli.Central, database catalog.Database) (*capacity.Run, error) {
	server, err := cli.FindServer(ctx, central.Catalog, database.Server)
	if err != nil {
		return nil, err
	}
	r := &capacity.Run{
		Database: database.Name, Server: server, Template: cmp.Or(m.template, database.DBName), Plan: m.plan, Say: app.Say, Stderr: app.Stderr,
	}
	if r.Admin, err = app.AddressFrom(ctx, "--admin-url-file", m.adminFile, "HEADGATE_ADMIN_URL"); err != nil {
		return nil, err
	}
	authorities := catalog.NewAuthorities(central.Pool)
	t := target{server, authorities}.past()
	r.Connect = t.connect
	if err := t.check("the administrator's", r.Admin); err != nil {
		return nil, err
	}
	trusted, err := authorities.Trust(ctx, r.Admin)
	if err != nil {
		return nil, err
	}
	r.Roots = trusted.Roots
	if m.clean {
		return r, nil
	}
	for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
		place, err := central.Catalog.Hosting().Place(ctx, database.ID, login)
		if err != nil {
			return nil, err
		}
		a, err := place.Open(ctx)
		if err != nil {
			return nil, err
		}
		if login == jobs.LoginJob {
			r.Job = a
		} else {
			r.Owner = a
		}
	}
	databases, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return central.Catalog.Databases(ctx, page) })
	for _, d := range databases {
		if d.ServerID == server.ID {
			r.Others = append(r.Others, d.DBName)
		}
	}
	if err != nil {
		return nil, err
	}
	r.Conns, err = m.share(ctx, central, server)
	return r, err
}

// share is how many connections the test may have.
func (m *measuring) share(ctx context.Context, central cli.Central, server catalog.Server) (int, error) {
	loads, err := central.Explain.ServerLoads(ctx)
	if err != nil {
		return 0, err
	}
	used := loads[server.ID].InUse
	left := server.Budget - used
	switch {
	case left < capacity.LeastConns:
		return 0, fmt.Errorf("%w: workers use %d of the budget of server %[4]s, which is %[3]d, and the test needs %[5]d: run it when less is to be done, or raise the budget with `headgate server set %[4]s --budget N`",
			catalog.ErrFull, used, server.Budget, server.Name, capacity.LeastConns)
	case m.conns > left:
		return 0, cli.Usagef("--connections: %d does not fit: the budget of server %s is %d, and its workers use %d", m.conns, server.Name, server.Budget, used)
	}
	return cmp.Or(m.conns, left), nil
}

var stepColumns = []cli.Column[capacity.Step]{
	{Name: "tenants", Of: func(s capacity.Step) any { return s.Tenants }},
	{Name: "offered_s", Of: func(s capacity.Step) any { return fmt.Sprintf("%.1f", s.Offered) }},
	{Name: "done_s", Of: func(s capacity.Step) any { return fmt.Sprintf("%.1f", s.Done) }},
	{Name: "p50_ms", Of: func(s capacity.Step) any { return fmt.Sprintf("%.1f", s.P50) }},
	{Name: "p95_ms", Of: func(s capacity.Step) any { return fmt.Sprintf("%.1f", s.P95) }},
	{Name: "p99_ms", Of: func(s capacity.Step) any { return fmt.Sprintf("%.1f", s.P99) }},
	{Name: "run_ms", Of: func(s capacity.Step) any { return fmt.Sprintf("%.1f", s.RunP95) }},
	{Name: "conns", Of: func(s capacity.Step) any { return s.Connections }},
	{Name: "failed", Of: func(s capacity.Step) any { return s.Failed }},
	{Name: "good", Of: func(s capacity.Step) any { return s.Bad == "" }},
}

func (m *measuring) measure(ctx context.Context, app *cli.App, central cli.Central, database catalog.Database, run *capacity.Run) error {
	app.Say("note: this is load on server %s: at most %s, for %s a step", run.Server.Name, jobs.Count(run.Conns, "connection"), run.For)
	result, err := run.Do(ctx)
	if err != nil {
		return err
	}
	if m.set && result.MaxTenants > 0 {
		if err := m.write(ctx, app, central, database, result); err != nil {
			return err
		}
		result.Set = true
	}
	if err := m.print(app, result); err != nil {
		return err
	}
	if result.MaxTenants == 0 {
		return fmt.Errorf("the first step, of %s, was not good: %s; begin lower with --first, or look at the mix", jobs.Count(m.plan.First, "tenant"), result.Steps[0].Bad)
	}
	return nil
}

func (m *measuring) print(app *cli.App, result capacity.Result) error {
	switch app.Output {
	case "json":
		return app.JSON(result)
	case "table":
	default:
		return cli.List(app, result.Steps, "", stepColumns)
	}
	if err := cli.List(app, result.Steps, "", stepColumns); err != nil || result.MaxTenants == 0 {
		return err
	}
	if err := app.Print("\nmax_tenants %d: %s good, less %d %%", result.MaxTenants, jobs.CountVerb(result.Good, "tenant", "was", "were"), result.Margin); err != nil {
		return err
	}
	if !result.Limited {
		app.Say("no step was bad, so it may hold more: --most N tries")
	}
	if !result.Set {
		app.Say("next: `headgate database set %s --max-tenants %d`", result.Database, result.MaxTenants)
	}
	return nil
}

// write makes what was found the bound of the database.
func (m *measuring) write(ctx context.Context, app *cli.App, central cli.Central, database catalog.Database, result capacity.Result) error {
	reason := cmp.Or(access.From(ctx).Reason, fmt.Sprintf("capacity test: %s good, less %d %%", jobs.CountVerb(result.Good, "tenant", "was", "were"), result.Margin))
	err := pgx.BeginFunc(ctx, central.Pool, func(tx pgx.Tx) (err error) {
		if err := access.Say(ctx, tx, "", reason); err != nil {
			return err
		}
		database, err = central.Catalog.Hosting().SetRoomTx(ctx, tx, database.ID, catalog.Room{MaxTenants: &result.MaxTenants})
		return err
	})
	if err != nil {
		return err
	}
	app.Say("database %s takes %s from now on, and has %d", database.Name, jobs.Count(result.MaxTenants, "tenant"), database.Tenants)
	return nil
}
