package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

const protectLong = `Hold the jobs of each tenant to that tenant's rows in a database that tenants share.

Without --table, --view, --trusted-function and --withdraw it lists what is open, with the
command that mends each thing, changes nothing, and exits with 1 if anything is.

With --table it gives jobs the table: a restrictive policy binds the organisation
column to the job's tenant, and for everybody else nothing changes, except what
--dry-run names. The column is bigint, integer, smallint, numeric, text, varchar,
char or uuid. A table without such a column is reached through a foreign key
(--through), or belongs to no tenant (--public). --by view leaves the table as it
is, and gives jobs a view of their tenant's rows instead. --brand-column keeps
brands of a tenant apart too, for jobs that are limited to one; a dedicated
database takes it as well.

Rights of jobs on what is neither guarded nor declared are taken away. --declared
lists who declared what, and --withdraw takes a declaration back: jobs lose the
object, and the table is as it was. All of it is done in one transaction, or
nothing is. What must be run by another role than
the owner login is not run: --dry-run prints the whole script.`

const protectExample = `  headgate database protect shared-1
  headgate database protect shared-1 --table app.orders --org-column customer_id --dry-run
  headgate database protect shared-1 --table app.orders --table app.invoices --org-column customer_id
  headgate database protect shared-1 --table app.order_items --through order_id
  headgate database protect shared-1 --table app.orders --org-column customer_id --brand-column brand_id
  headgate database protect shared-1 --table app.countries --public --reason "the same for all tenants"
  headgate database protect shared-1 --withdraw app.countries`

// protecting is one `database protect`.
type protecting struct {
	name      string
	tables    []string
	table     protection.Table
	views     []string
	functions []string
	withdraw  []string
	declared  bool
	reason    string
	actor     string
	dryRun    bool
}

func databaseProtect(app *cli.App) *cobra.Command {
	var p protecting
	cmd := &cobra.Command{
		Use:     "protect NAME [--table TABLE]... [--org-column COLUMN | --through FOREIGN_KEY | --public] [--brand-column COLUMN] [--by policy|view] [--view VIEW]... [--trusted-function FUNCTION]...",
		Short:   "Hold each tenant's jobs to its rows, or list what is open",
		Long:    protectLong,
		Example: protectExample,
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		p.name = args[0]
		if err := p.check(cmd); err != nil {
			return err
		}
		return p.run(ctx, app)
	})
	f := cmd.Flags()
	f.StringArrayVar(&p.tables, "table", nil, "a table that jobs are to use, as SQL writes it; may be repeated")
	f.StringVar(&p.table.Column, "org-column", "", "the column of these tables that holds the organisation (org_id unless set)")
	f.StringVar(&p.table.Through, "through", "", "the foreign key of these tables that leads to a guarded table: a column, or several with commas")
	f.StringVar(&p.table.Brand, "brand-column", "", "the column of these tables that holds the brand: jobs of a brand meet its rows only")
	f.BoolVar(&p.table.Public, "public", false, "these tables belong to no tenant: all jobs may read them (needs --reason)")
	f.StringVar(&p.table.By, "by", protection.ByPolicy, "how these tables are guarded: policy, or view, which leaves them as they are")
	f.StringSliceVar(&p.table.Grant, "grant", nil, "what jobs may do with these tables: some of select,insert,update,delete (all four unless set, or what they may already)")
	f.StringArrayVar(&p.views, "view", nil, "a view of the application's, of which jobs get a copy with their own rights (Postgres 15 or newer); may be repeated")
	f.StringArrayVar(&p.functions, "trusted-function", nil, "a function that runs with its owner's rights and keeps to its caller's tenant (needs --reason); may be repeated")
	f.StringArrayVar(&p.withdraw, "withdraw", nil, "a table, view or function whose declaration is taken back; may be repeated")
	f.BoolVar(&p.declared, "declared", false, "list what is declared, by whom and why, and change nothing")
	f.StringVar(&p.reason, "reason", "", "why, for the record")
	f.StringVar(&p.actor, "actor", "", "who decides, for the record (default: $USER)")
	f.BoolVar(&p.dryRun, "dry-run", false, "print the whole script and what the application may notice, and change nothing")
	cli.Complete(cmd, "by", []string{protection.ByPolicy, protection.ByView})
	cli.Complete(cmd, "grant", []string{"select", "insert", "update", "delete"})
	return cmd
}

// asks says whether anything is to be changed.
func (p *protecting) asks() bool {
	return p.guards() || len(p.withdraw) > 0
}

// guards says whether anything is to be guarded or declared.
func (p *protecting) guards() bool { return len(p.tables)+len(p.views)+len(p.functions) > 0 }

func (p *protecting) check(cmd *cobra.Command) error {
	if err := cli.OneOf("--by", p.table.By, []string{protection.ByPolicy, protection.ByView}); err != nil {
		return err
	}
	for _, flag := range []string{"org-column", "brand-column", "through", "public", "by", "grant"} {
		if cmd.Flags().Changed(flag) && len(p.tables) == 0 {
			return cli.Usagef("--%s is said of tables, and none is named: give --table", flag)
		}
	}
	if err := cli.NotZero(cmd, "org-column", "brand-column", "through", "reason"); err != nil {
		return err
	}
	if p.declared && (p.asks() || p.dryRun || cmd.Flags().Changed("reason")) {
		return cli.Usagef("--declared lists and changes nothing: give it alone")
	}
	if !p.asks() && (p.dryRun || cmd.Flags().Changed("reason")) {
		return cli.Usagef("nothing is to be changed: give --table, --view, --trusted-function or --withdraw, or leave out --dry-run and --reason for the list of what is open")
	}
	return nil
}

func (p *protecting) run(ctx context.Context, app *cli.App) error {
	ring, err := app.Keys()
	if err != nil {
		return err
	}
	return app.Open(ctx, ring, func(central cli.Central) error {
		db, err := cli.FindDatabase(ctx, central.Catalog, p.name)
		if err != nil {
			return err
		}
		if db.Kind == catalog.KindDedicated && p.guards() && p.table.Brand == "" {
			return cli.Usagef("database %s is dedicated: it has one tenant, from whom nothing needs to be kept; give its jobs rights with GRANT … TO headgate_job, or keep the tenant's brands apart with --brand-column", db.Name)
		}
		if p.declared {
			return p.declarations(ctx, app, central, db)
		}
		job, login, err := connect(ctx, central, db, jobs.LoginJob)
		if err != nil {
			return err
		}
		defer cli.CloseConn(ctx, job)
		if !p.asks() {
			return p.list(ctx, app, db, job)
		}
		owner, _, err := connect(ctx, central, db, jobs.LoginOwner)
		if err != nil {
			return err
		}
		defer cli.CloseConn(ctx, owner)
		return p.protect(ctx, app, db, owner, job, p.request(app, db, login))
	})
}

const selectTenantVersion = `SELECT database_id::pg_catalog.text, version, serves FROM headgate.whoami()`

// connect opens one connection with a login of the catalog's, past the pooler if there is a
// way, and looks whose database it is. Names mean what they mean to that login, so statements
// on the connection name everything in full or run in a transaction of package protection.
func connect(ctx context.Context, central cli.Central, db catalog.Database, login jobs.Login) (*pgx.Conn, string, error) {
	place, err := central.Catalog.ResolveDatabase(ctx, db.ID, login)
	if err != nil {
		return nil, "", err
	}
	if direct, ok := place.Session(); ok {
		place = direct
	}
	a, err := place.Open(ctx)
	if err != nil {
		return nil, "", err
	}
	conn, err := tenantdb.ConnectNaming(ctx, tenantdb.Config{}, place.Transport, place.Pooler, a.Canonical(place.Transport))
	var failed *tenantdb.ConnectError
	if errors.As(err, &failed) {
		return nil, "", cli.InWords(err, fmt.Sprintf("the %s login %s of database %s: %s", login, a, db.Name, refusal(failed)))
	}
	if err != nil {
		return nil, "", err
	}
	if err := belongs(ctx, conn, a, db); err != nil {
		cli.CloseConn(ctx, conn)
		return nil, "", err
	}
	return conn, a.User, nil
}

// belongs refuses another database than the catalog means, and a schema that does not fit.
func belongs(ctx context.Context, conn *pgx.Conn, a address.Address, db catalog.Database) error {
	if err := whoami(ctx, conn, a, db); err != nil {
		return err
	}
	var id string
	var version, serves int
	if err := conn.QueryRow(ctx, selectTenantVersion).Scan(&id, &version, &serves); err != nil {
		return fmt.Errorf("asking database %s for its schema's version: %w", db.Name, err)
	}
	return migrations.CheckTenant(db.Name, version, serves)
}

func (p *protecting) request(app *cli.App, db catalog.Database, login string) protection.Request {
	req := protection.Request{
		Database: db.Name, Login: login, Dedicated: db.Kind == catalog.KindDedicated, Views: p.views, Functions: p.functions, Withdraw: p.withdraw,
		Actor: cmp.Or(p.actor, app.Actor()), Reason: strings.TrimSpace(p.reason),
	}
	for _, name := range p.tables {
		t := p.table
		t.Name = name
		req.Tables = append(req.Tables, t)
	}
	return req
}

// protected is the shape of `database protect -o json` where something was asked for.
type protected struct {
	Database string `json:"database"`
	DryRun   bool   `json:"dry_run"`
	protection.Plan
}

var protectedColumns = []cli.Column[protected]{
	{Name: "database", Of: func(p protected) any { return p.Database }},
	{Name: "statements", Of: func(p protected) any { return len(p.Statements) }},
	{Name: "harms", Of: func(p protected) any { return len(p.Harms) }},
	{Name: "dry_run", Of: func(p protected) any { return p.DryRun }},
}

func (p *protecting) protect(ctx context.Context, app *cli.App, db catalog.Database, owner, job *pgx.Conn, req protection.Request) error {
	plan, err := protection.MakePlan(ctx, owner, req)
	if err != nil {
		return err
	}
	if p.dryRun {
		cli.SayDryRun(app, "")
		if app.Output == "table" {
			return app.Print("%s", strings.TrimRight(plan.Script(), "\n"))
		}
		return cli.One(app, protected{db.Name, true, plan}, protectedColumns)
	}
	for _, h := range plan.Harms {
		app.Say("%s: %s; cure: %s", h.Table, h.Says, h.Cure)
	}
	if plan.Path != nil { // first: it changes nothing before the views are there
		if _, err := job.Exec(ctx, plan.Path.SQL); err != nil {
			return fmt.Errorf("setting the job login's search_path: %w", err)
		}
	}
	plan, err = protection.Apply(ctx, owner, req)
	if said := (*pgconn.PgError)(nil); errors.As(err, &said) && said.Code == "55P03" {
		return fmt.Errorf("nothing is changed, because a table is in use: run the command again at a quieter moment (%w)", err)
	}
	if err != nil {
		return err
	}
	for _, n := range plan.Notes {
		app.Say("note: %s", n)
	}
	report, err := protection.Inspect(ctx, job, protection.Options{Dedicated: db.Kind == catalog.KindDedicated, Database: db.Name})
	if err != nil {
		return err
	}
	if open := len(report.Open()); open > 0 {
		app.Say("%s still open: `headgate database protect %s` lists what, and what to do", jobs.CountVerb(open, "thing", "is", "are"), db.Name)
	} else {
		app.Say("nothing is open in database %s", db.Name)
	}
	return cli.One(app, protected{db.Name, false, plan}, protectedColumns)
}

var declarationColumns = []cli.Column[protection.Declaration]{
	{Name: "object", Of: func(d protection.Declaration) any { return d.Object }},
	{Name: "mode", Of: func(d protection.Declaration) any { return d.Mode }},
	{Name: "org_column", Of: func(d protection.Declaration) any { return d.OrgColumn }},
	{Name: "through", Of: func(d protection.Declaration) any { return d.Through }},
	{Name: "brand_column", Of: func(d protection.Declaration) any { return d.Brand }},
	{Name: "shown_by", Of: func(d protection.Declaration) any { return d.ShownBy }},
	{Name: "actor", Of: func(d protection.Declaration) any { return d.Actor }},
	{Name: "declared_at", Of: func(d protection.Declaration) any { return d.DeclaredAt }},
	{Name: "reason", Of: func(d protection.Declaration) any { return d.Reason }},
}

func (p *protecting) declarations(ctx context.Context, app *cli.App, central cli.Central, db catalog.Database) error {
	owner, _, err := connect(ctx, central, db, jobs.LoginOwner)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, owner)
	all, err := protection.Declarations(ctx, owner)
	if err != nil {
		return err
	}
	return cli.List(app, all, "nothing is declared in database "+db.Name, declarationColumns)
}

var findingColumns = []cli.Column[protection.Finding]{
	{Name: "level", Of: func(f protection.Finding) any { return string(f.Level) }},
	{Name: "code", Of: func(f protection.Finding) any { return f.Code }},
	{Name: "object", Of: func(f protection.Finding) any { return f.Object }},
	{Name: "says", Of: func(f protection.Finding) any { return f.Says }},
	{Name: "next", Of: func(f protection.Finding) any { return f.Next }},
}

// list prints what is open.
func (p *protecting) list(ctx context.Context, app *cli.App, db catalog.Database, job *pgx.Conn) error {
	report, err := protection.Inspect(ctx, job, protection.Options{Database: db.Name, Dedicated: db.Kind == catalog.KindDedicated})
	if err != nil {
		return err
	}
	if app.Output == "table" {
		err = sentences(app, report, db.Name, db.Kind == catalog.KindDedicated)
	} else {
		err = cli.List(app, report.Findings, "", findingColumns)
	}
	if open := len(report.Open()); err == nil && open > 0 {
		return fmt.Errorf("%s open in database %s: what to do stands beside each", jobs.CountVerb(open, "thing", "is", "are"), db.Name)
	}
	return err
}

func sentences(app *cli.App, report protection.Report, database string, dedicated bool) error {
	for _, f := range report.Findings {
		if err := app.Paragraph("  "+string(f.Level)+"  ", f.Says); err != nil {
			return err
		}
		if err := app.Paragraph("        next: ", f.Next); err != nil {
			return err
		}
	}
	if len(report.Open()) == 0 && dedicated {
		app.Say("nothing is open in database %s: it is dedicated, and its one tenant's jobs have the rights that headgate_job was given", database)
	} else if len(report.Open()) == 0 {
		app.Say("nothing is open in database %s: tables, views and sequences that its job login may touch: %d, all guarded or declared", database, report.Relations)
	}
	return nil
}
