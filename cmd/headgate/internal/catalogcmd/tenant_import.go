package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// importVerbs bring tenants in and out by many.
func importVerbs(app *cli.App) []*cobra.Command {
	return []*cobra.Command{tenantImport(app), tenantSync(app), tenantExport(app)}
}

const columnsLong = `
Input is CSV with a header, JSON Lines, or a query (--source-url-file FILE
--query-file FILE). FILE "-" is standard input. Columns:

  slug, org_id, org_key       who it is: the tenant with this org_id, else with
                              this org_key, else with this slug
  name, plan, timezone        empty: the slug, none, UTC
  status                      active, suspended or archived
  labels, label.KEY           an object of JSON, or one column a label
  features, feature.NAME      the same; values are of the feature's type
  domains, subdomains, email_domains
                              with blanks between them, or an array of JSON
  database                    where it lives; for new ones also --database
  db_host, db_port, db_name, db_user, db_password, or connection_string
                              the job login of its database, which is added to
                              the catalog where it is new (sealed with
                              HEADGATE_KEY); the server is found by the host
  owner_user, owner_password, or owner_connection_string
                              its owner login; see also --owner-url-file
  db_kind, server             dedicated (the default) or shared; where two
                              servers have the host

A column that the input lacks is left alone. An empty cell is the default.
Nothing is written if any row is wrong.`

const importLong = `Add the tenants of a table to the catalog, and change those that differ.
Tenants that the table lacks stay as they are, and nobody is removed. A status of
the table is set as by whoever runs the command; no sync undoes it.
` + columnsLong

const syncLong = `Keep the catalog as a table of tenants is: add and change as "tenant import"
does, suspend the tenants that are missing (status_reason "sync"), and let those
that a sync has suspended work again when they are back. A status that somebody
else has set stays. Only tenants of the same --source are ever suspended: those
that this sync has brought or taken over.

If more than 10 tenants and more than 5 % of the source's active ones are
missing or stopped by their column status, or more than half of them are missing,
nothing is written until --allow-missing says
their number. Give each table a --source of its own.

The kind headgate.sync does the same by a schedule, from a table in a database of
the catalog.
` + columnsLong

// importing is what import and sync are told.
type importing struct {
	opts    importer.Options
	confirm cli.Confirmation
	limit   time.Duration
	source  sourceFlags

	ownerFile string
}

func tenantImport(app *cli.App) *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Add and change tenants by a table in CSV or JSON Lines, or a query",
		Long:  importLong,
	}
	i.flags(app, cmd)
	return cmd
}

func tenantSync(app *cli.App) *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use:   "sync FILE",
		Short: "Import, and suspend the tenants that the table lacks",
		Long:  syncLong,
	}
	i.flags(app, cmd)
	cmd.Flags().StringVar(&i.opts.Source, "source", "default", "a name for where the tenants come from")
	cli.IntIn(cmd.Flags(), &i.opts.AllowMissing, "allow-missing", 0, 1, 0, "how many tenants this stops, where they are more than 10 and 5 %, or half missing")
	return cmd
}

func (i *importing) flags(app *cli.App, cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if i.source.query() {
			return cli.Args()(cmd, args)
		}
		return cli.Args("FILE")(cmd, args)
	}
	cmd.RunE = cli.Within(&i.limit, "; nothing was written: raise --timeout", func(ctx context.Context, args []string) error {
		sync := cmd.Flags().Lookup("source") != nil
		if sync && i.opts.Source == "" {
			return cli.Usagef("--source is empty: give a name, or leave it out for %q", "default")
		}
		return i.run(ctx, app, args, sync)
	})
	flags := cmd.Flags()
	i.source.flags(cmd)
	flags.StringVar(&i.opts.Database, "database", "", "where new tenants live whose rows do not say it")
	flags.StringVar(&i.ownerFile, "owner-url-file", "", "a file with the owner login of new databases: postgres://USER:PASS@{host}:{port}/{database}")
	flags.BoolVar(&i.opts.DryRun, "dry-run", false, "show what would be written, and write nothing")
	cli.DurationVar(flags, &i.limit, "timeout", 10*time.Minute, "how long it may take")
	i.confirm.Flags(cmd)
}

func (i *importing) run(ctx context.Context, app *cli.App, args []string, sync bool) error {
	table, err := i.source.read(ctx, app, args)
	if err != nil {
		return wrongRows(app, err)
	}
	var ring *catalog.KeyRing
	if table.HasLogins() {
		if ring, err = app.Keys(); err != nil {
			return err
		}
	}
	if i.ownerFile != "" {
		text, err := app.SecretFile("--owner-url-file", i.ownerFile)
		if err != nil {
			return err
		}
		owner, err := importer.ParseOwner(address.NewSecret(text))
		if err != nil {
			return cli.Usagef("--owner-url-file: %w", err)
		}
		i.opts.Owner = &owner
	}
	what := "the import adds or changes"
	if sync {
		what = "the sync adds, changes or suspends"
	}
	i.opts.Confirm = func(plan *importer.Plan) error { return i.confirm.Check(what)(plan.Tenants()) }
	return app.Open(ctx, ring, func(central cli.Central) error {
		var plan *importer.Plan
		err := i.confirm.Do(ctx, app, func() (err error) {
			plan, err = importer.New(central.Pool, central.Catalog).Import(ctx, table, i.opts)
			return err
		})
		if err != nil {
			return wrongRows(app, err)
		}
		return printImport(app, plan, i.opts.DryRun)
	})
}

// wrongRows lists what is wrong with an input, a line each.
func wrongRows(app *cli.App, err error) error {
	var wrong *importer.RowsError
	var held *importer.HeldError
	switch {
	case errors.As(err, &wrong) && wrong.Total > 1:
		for _, row := range wrong.Rows {
			app.Say("line %d: %s", row.Line, row.Says)
		}
		if more := wrong.Total - len(wrong.Rows); more > 0 {
			app.Say("and %d more", more)
		}
		return cli.Usagef("%s in the input; nothing was written", jobs.Count(wrong.Total, "error"))
	case errors.As(err, &held):
		return cli.Usagef("%w; look whether the input is whole, and pass --allow-missing %d if they are to be stopped", err, held.Stops())
	}
	return err
}

// shownItems is how many tenants of each action are listed.
const shownItems = 20

// importView is the shape of a plan in JSON.
type importView struct {
	DryRun bool `json:"dry_run"`
	*importer.Plan
	Items []importer.Item `json:"items"` // the first 20 of each action
}

// importLine is a line of the table: a field of a tenant.
type importLine struct {
	Action string `json:"action"`
	Tenant string `json:"tenant"`
	Line   int    `json:"line"`
	Field  string `json:"field"`
	Old    string `json:"old"`
	New    string `json:"new"`
}

var importColumns = []cli.Column[importLine]{
	{Name: "action", Of: func(l importLine) any { return l.Action }},
	{Name: "tenant", Of: func(l importLine) any { return l.Tenant }},
	{Name: "line", Of: func(l importLine) any {
		if l.Line == 0 {
			return nil
		}
		return l.Line
	}},
	{Name: "field", Of: func(l importLine) any { return l.Field }},
	{Name: "old", Of: func(l importLine) any { return l.Old }},
	{Name: "new", Of: func(l importLine) any { return l.New }},
}

func printImport(app *cli.App, plan *importer.Plan, dryRun bool) error {
	view := importView{DryRun: dryRun, Plan: plan, Items: []importer.Item{}}
	count := map[string]int{}
	var lines []importLine
	for _, item := range plan.Items {
		if count[item.Action]++; count[item.Action] > shownItems {
			continue
		}
		view.Items = append(view.Items, item)
		if len(item.Fields) == 0 {
			lines = append(lines, importLine{Action: item.Action, Tenant: item.Tenant, Line: item.Line})
		}
		for _, f := range item.Fields {
			lines = append(lines, importLine{item.Action, item.Tenant, item.Line, f.Field, f.Old, f.New})
		}
	}
	if app.Output == "json" {
		return app.JSON(view)
	}
	if len(lines) > 0 || app.Output != "table" {
		if err := cli.List(app, lines, "", importColumns); err != nil {
			return err
		}
	}
	for _, action := range []string{importer.Add, importer.Change, importer.Suspend} {
		if more := count[action] - shownItems; more > 0 {
			app.Say("(%s: %d more)", action, more)
		}
	}
	sayNewPlans(app, plan)
	app.Say("%s", plan.Summary(dryRun))
	if plan.Databases > 0 && !dryRun {
		app.Say("next: `headgate database install --all` installs Headgate's schema in the new databases")
	}
	return nil
}

// sayNewPlans is sayNewPlan for the plans of an input.
func sayNewPlans(app *cli.App, plan *importer.Plan) {
	for _, p := range plan.NewPlans {
		switch {
		case p.Name == "":
			app.Say("line %d: its plan is new, and has no defaults yet; its name is not repeated, because the input has logins", p.Line)
		case p.Near == "":
			sayPlanIsNew(app, p.Name)
		default:
			sayPlanIsNew(app, p.Name, p.Near)
		}
	}
	if more := plan.Plans - len(plan.NewPlans); more > 0 {
		app.Say("(plans that are new: %d more)", more)
	}
}

func tenantExport(app *cli.App) *cobra.Command {
	limit := 10 * time.Minute
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the tenants as CSV or JSON Lines that an import reads",
		Args:  cli.Args(),
		RunE: cli.Within(&limit, "; raise --timeout", func(ctx context.Context, _ []string) error {
			format := app.Output
			switch format {
			case "table":
				format = importer.CSV
			case "json":
				return cli.Usagef("--output: an export is csv (the default) or jsonl")
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				n, err := importer.New(central.Pool, central.Catalog).Export(ctx, app.Stdout, cmp.Or(format, importer.CSV))
				if err == nil {
					app.Say("%s; addresses are never exported", jobs.Count(n, "tenant"))
				}
				return err
			})
		}),
	}
	cli.DurationVar(cmd.Flags(), &limit, "timeout", limit, "how long it may take")
	return cmd
}
