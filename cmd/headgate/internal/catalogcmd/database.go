package catalogcmd

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
)

// Database is the verbs on databases.
func Database(app *cli.App) *cobra.Command {
	return cli.Group("database", "Databases where the rows of one or many tenants live",
		databaseCreate(app), databaseAdopt(app), databaseAdd(app), databaseInstall(app), databaseProtect(app), databaseSet(app), databaseLogin(app), databaseRestored(app), databaseCapacity(app), databaseList(app),
		databaseShow(app), databaseRename(app), databaseDetach(app), databaseReattach(app), databaseRemove(app))
}

var databaseColumns = []cli.Column[catalog.Database]{
	{Name: "name", Of: func(d catalog.Database) any { return d.Name }},
	{Name: "kind", Of: func(d catalog.Database) any { return d.Kind }},
	{Name: "server", Of: func(d catalog.Database) any { return d.Server }},
	{Name: "dbname", Of: func(d catalog.Database) any { return d.DBName }, Aside: true},
	{Name: "tenants", Of: func(d catalog.Database) any { return d.Tenants }},
	{Name: "reads", Of: func(d catalog.Database) any { return readsOf(d) }, Aside: true},
	{Name: "protection", Of: func(d catalog.Database) any { return protectionOf(d) }},
	{Name: "created_at", Of: func(d catalog.Database) any { return d.CreatedAt }, Aside: true},
}

// databaseView is the shape of `database list -o json`: the row, and the breaker.
type databaseView struct {
	catalog.Database
	explain.DatabaseBreaker
	ServerState string `json:"server_state"`
}

// serverOpen is the state of a server that takes work.
const serverOpen = "open"

// stateOf is one word for what keeps the jobs of a database from running, its server's state
// where the database's own is against nothing; else attached.
func (v databaseView) stateOf() string {
	switch {
	case v.State == catalog.Attached && !v.Installed:
		return "not installed"
	case v.State == catalog.Attached && v.ServerState != serverOpen:
		return v.ServerState
	}
	return string(v.State)
}

// sayNotInstalled names the databases that an import has entered and that have no schema yet,
// and the command that installs. more is "", or which tenant lives there.
func sayNotInstalled(app *cli.App, databases []catalog.Database) {
	var names []string
	for _, d := range databases {
		if !d.Installed {
			names = append(names, d.Name)
		}
	}
	switch len(names) {
	case 0:
	case 1:
		app.Say("%s: an import has entered it, and Headgate's schema is not installed, so that its jobs fail: `headgate database install %s`", names[0], names[0])
	default:
		app.Say("an import has entered %d databases where Headgate's schema is not installed, so that their jobs fail: %s: `headgate database install --all`", len(names), shortList(names))
	}
}

// breakerText is a breaker in a table, with its class where it is not closed.
func breakerText(b explain.DatabaseBreaker) string {
	if b.BreakerClass == "" {
		return b.Breaker
	}
	return b.Breaker + " (" + b.BreakerClass + ")"
}

// breakerSentence says of a breaker that is not closed what opened it, and whether the
// database is being tried.
func breakerSentence(b explain.DatabaseBreaker) string {
	if b.Breaker == "open" {
		return fmt.Sprintf("%s since %s: %s", breakerText(b), cli.Stamp(*b.BreakerSince), b.BreakerCause)
	}
	return fmt.Sprintf("%s: being tried since %s, by %d at a time and twice as many after each success; at first, at %s: %s",
		breakerText(b), cli.Stamp(*b.BreakerUntil), b.BreakerAllowed, cli.Stamp(*b.BreakerSince), b.BreakerCause)
}

func databaseListColumns() []cli.Column[databaseView] {
	columns := make([]cli.Column[databaseView], 0, len(databaseColumns)+2)
	for _, c := range databaseColumns {
		if c.Name == "created_at" {
			columns = append(columns,
				cli.Column[databaseView]{Name: "state", Of: func(v databaseView) any { return v.stateOf() }},
				cli.Column[databaseView]{Name: "breaker", Of: func(v databaseView) any { return breakerText(v.DatabaseBreaker) }})
		}
		columns = append(columns, cli.Column[databaseView]{Name: c.Name, Of: func(v databaseView) any { return c.Of(v.Database) }, Aside: c.Aside})
	}
	return columns
}

const databaseAddLong = `Install Headgate's schema in a database whose two logins are there, and enter it
in the catalog. "headgate database create" and "adopt" make the logins too, with an
administrator's address.

The database needs two logins. The owner login owns its tables; Headgate installs
with it, and runs ANALYZE and VACUUM. The job login does all other work; it owns
nothing and is a member of headgate_job. Their addresses come from
HEADGATE_JOB_URL and HEADGATE_OWNER_URL, from the files that
HEADGATE_JOB_URL_FILE and HEADGATE_OWNER_URL_FILE name, or from flags; they are
sealed with HEADGATE_KEY and never shown again.

On a server behind a pooler in transaction mode each login may have a direct
address as well, past the pooler, for what needs a session: HEADGATE_JOB_DIRECT_URL,
HEADGATE_OWNER_DIRECT_URL, their _FILE forms, or flags.

Running the command again after a failure is safe.`

func databaseAdd(app *cli.App) *cobra.Command {
	var add adding
	cmd := &cobra.Command{
		Use:   "add NAME --server SERVER --kind shared|dedicated",
		Short: "Install Headgate in a database and enter it in the catalog",
		Long:  databaseAddLong,
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) (err error) {
		if err := cli.Required(cmd, "server", "kind"); err != nil {
			return err
		}
		if err := cli.OneOf("--kind", add.params.Kind, databaseKinds); err != nil {
			return err
		}
		add.params.Name = args[0]
		return addDatabase(ctx, app, &add)
	})
	cmd.Flags().StringVar(&add.params.Server, "server", "", "the name of its server in the catalog")
	cmd.Flags().StringVar(&add.params.Kind, "kind", "", "shared (many tenants) or dedicated (one)")
	observeFlag(cmd, &add.observe)
	cmd.Flags().BoolVar(&add.takeOver, "take-over", false, "take a database whose mark is of a catalog entry that is gone for good")
	cli.Complete(cmd, "kind", databaseKinds)
	add.logins.flags(cmd)
	return cmd
}

func databaseList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the databases and how many tenants live in each",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				databases, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return central.Catalog.Databases(ctx, page) })
				if err != nil {
					return err
				}
				intents, err := cli.All(func(page jobs.Page) ([]catalog.Intent, string, error) {
					return catalog.Intents(ctx, central.Pool, page)
				})
				if err != nil {
					return err
				}
				for _, i := range intents {
					app.Say("unfinished: %s on server %s, begun %s by %s, at step %s: %s", i.Name, i.Server, cli.Stamp(i.BegunAt), cli.Quote(i.Actor), i.Step, i.Next())
				}
				breakers, err := central.Explain.DatabaseBreakers(ctx)
				if err != nil {
					return err
				}
				servers, err := cli.All(func(page jobs.Page) ([]catalog.Server, string, error) { return central.Catalog.Servers(ctx, page) })
				if err != nil {
					return err
				}
				states := make(map[string]string, len(servers))
				for _, s := range servers {
					states[s.ID] = s.State
				}
				if app.Output == "table" {
					sayNotInstalled(app, databases)
				}
				views := make([]databaseView, len(databases))
				for i, d := range databases {
					views[i] = databaseView{d, breakers[d.ID], cmp.Or(states[d.ServerID], serverOpen)} // a server may have come since
					views[i].Breaker = cmp.Or(views[i].Breaker, "closed")
					if d.State == catalog.Detached && app.Output == "table" {
						app.Say("%s: detached since %s by %s: %s", d.Name, cli.Stamp(d.StateSince), cli.Quote(d.StateBy), d.StateReason)
					}
					if b := views[i].DatabaseBreaker; b.BreakerCause != "" && app.Output == "table" {
						app.Say("%s: %s", d.Name, breakerSentence(b))
					}
				}
				return cli.List(app, views, "no databases yet: `headgate database create NAME --server SERVER --kind shared`", databaseListColumns())
			})
		}),
	}
}
