package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/provision"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const databaseCreateLong = `Make a database for one or many tenants on a server, with its three logins, and
enter it in the catalog.

  NAME_app       owns the database and what the application makes in it
  NAME_headgate  owns schema headgate; installs, upgrades, VACUUM, ANALYZE
  NAME_job       runs the jobs: a member of headgate_job that owns nothing

An administrator's address is used once and never stored: HEADGATE_ADMIN_URL,
HEADGATE_ADMIN_URL_FILE or --admin-url-file. CREATEDB and CREATEROLE are enough.
The passwords are made here. Those of NAME_headgate and NAME_job are sealed with
HEADGATE_KEY; --app-url-file gets the address of NAME_app, which the application
needs and Headgate does not keep.

After a failure run the command again, which goes on where it ended, or with
--abandon, which removes what it has made. A role or database that it did not make
is never touched.`

const databaseAdoptLong = `Make the two logins of a database that exists, install Headgate's schema in it,
and enter it in the catalog. The application's tables are not touched, and jobs may
do nothing with them yet.

  NAME_headgate  owns schema headgate, and has the rights of the database's owner
  NAME_job       runs the jobs: a member of headgate_job that owns nothing

An administrator's address is used once and never stored: HEADGATE_ADMIN_URL,
HEADGATE_ADMIN_URL_FILE or --admin-url-file. The login must be able to make roles
and act as the database's owner. --dry-run prints every statement.

After a failure run the command again, which goes on where it ended, or with
--abandon, which removes what it has made.`

// making is one `database create` or `database adopt`.
type making struct {
	params    catalog.IntentParams
	adminFile string
	appFile   string
	observe   string // the reason; "": enforced
	dryRun    bool
	abandon   bool
}

// makingTime bounds the command: a CREATE DATABASE waits for a checkpoint, and a run for the
// one before.
const (
	makingTime = 5 * time.Minute
	heldWait   = catalog.IntentIdle + 20*time.Second
)

func databaseCreate(app *cli.App) *cobra.Command {
	m := making{params: catalog.IntentParams{Creates: true}}
	cmd := &cobra.Command{
		Use:   "create NAME --server SERVER --kind shared|dedicated",
		Short: "Make a database and its logins on a server, and enter it",
		Long:  databaseCreateLong,
		Args:  cli.Args("NAME"),
	}
	m.flags(app, cmd)
	cmd.Flags().StringVar(&m.appFile, "app-url-file", "", "the file to make with the application's address, readable by you only; - for standard output")
	return cmd
}

func databaseAdopt(app *cli.App) *cobra.Command {
	var m making
	cmd := &cobra.Command{
		Use:   "adopt NAME --server SERVER --kind shared|dedicated [--dbname DBNAME]",
		Short: "Make the logins of a database that exists, and enter it",
		Long:  databaseAdoptLong,
		Args:  cli.Args("NAME"),
	}
	m.flags(app, cmd)
	observeFlag(cmd, &m.observe)
	return cmd
}

// observeFlag is for databases whose jobs may do something already.
func observeFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "observe", "", "the reason why jobs run although the database does not keep its tenants apart yet (default: they wait)")
}

func observe(ctx context.Context, app *cli.App, central cli.Central, tx pgx.Tx, d *catalog.Database, reason string) (err error) {
	if reason == "" {
		return nil
	}
	actor := app.Actor()
	d.ProtectionSince, err = central.Catalog.SetProtectionTx(ctx, tx, catalog.ProtectionChange{Database: d.ID, To: catalog.ProtectionObserved, Reason: reason, Actor: actor})
	d.Protection, d.ProtectionReason, d.ProtectionBy = catalog.ProtectionObserved, &reason, &actor
	return err
}

func (m *making) flags(app *cli.App, cmd *cobra.Command) {
	limit := makingTime
	cmd.RunE = cli.Within(&limit, "; run it again, it goes on where it ended", func(ctx context.Context, args []string) error {
		m.params.Name, m.params.Actor = args[0], app.Actor()
		if m.abandon && (m.dryRun || m.observe != "") {
			return cli.Usagef("--abandon goes with neither --dry-run nor --observe")
		}
		if kind := cmd.Flags().Lookup("kind"); kind.Changed {
			if err := cli.OneOf("--kind", m.params.Kind, databaseKinds); err != nil {
				return err
			}
		}
		return m.run(ctx, app, func() error { return cli.Required(cmd, "server", "kind") })
	})
	flags := cmd.Flags()
	flags.StringVar(&m.params.Server, "server", "", "the name of its server in the catalog")
	flags.StringVar(&m.params.Kind, "kind", "", "shared (many tenants) or dedicated (one)")
	flags.StringVar(&m.params.DBName, "dbname", "", "its name on the server (default: NAME)")
	flags.BoolVar(&m.dryRun, "dry-run", false, "print every statement, with … for what is not known, and change nothing")
	flags.BoolVar(&m.abandon, "abandon", false, "remove what an unfinished run has made, and nothing else")
	flags.StringVar(&m.adminFile, "admin-url-file", "", "the file with the administrator's address, - for standard input (else HEADGATE_ADMIN_URL, HEADGATE_ADMIN_URL_FILE)")
	cli.Complete(cmd, "kind", databaseKinds)
}

var databaseKinds = []string{catalog.KindShared, catalog.KindDedicated}

var planColumns = []cli.Column[provision.Statement]{
	{Name: "as", Of: func(s provision.Statement) any { return s.As }},
	{Name: "database", Of: func(s provision.Statement) any { return s.Database }},
	{Name: "sql", Of: func(s provision.Statement) any { return s.SQL }},
}

func (m *making) run(ctx context.Context, app *cli.App, required func() error) error {
	if m.dryRun && m.params.Creates { // it needs to know nothing
		if err := required(); err != nil {
			return err
		}
		draft, err := m.params.Draft()
		if err != nil {
			return err
		}
		return printPlan(app, provision.Plan(draft, nil))
	}
	admin, err := app.AddressFrom(ctx, "--admin-url-file", m.adminFile, "HEADGATE_ADMIN_URL")
	if err != nil {
		return err
	}
	var ring *catalog.KeyRing
	if !m.abandon && !m.dryRun {
		if ring, err = app.Keys(); err != nil {
			return err
		}
	}
	return app.Open(ctx, ring, func(central cli.Central) error {
		if m.dryRun {
			return m.plan(ctx, app, central, admin, required)
		}
		conn, err := app.Conn(ctx)
		if err != nil {
			return err
		}
		hold, err := catalog.HoldIntent(ctx, conn, m.params.Name, heldWait, func() { app.Say("another run is at work on database %s: waiting for its end", m.params.Name) })
		if err != nil {
			return err
		}
		defer hold.Close(ctx)
		return m.held(ctx, app, central, &provision.Run{Hold: hold, Ring: ring, Admin: admin}, required)
	})
}

// plan prints the statements for a database that exists.
func (m *making) plan(ctx context.Context, app *cli.App, central cli.Central, admin address.Address, required func() error) error {
	if err := required(); err != nil {
		return err
	}
	draft, err := m.params.Draft()
	if err != nil {
		return err
	}
	r := &provision.Run{Admin: admin}
	if err := m.at(ctx, central, r, draft.Server); err != nil {
		return err
	}
	found, err := r.Look(ctx, draft)
	if err != nil {
		return err
	}
	return printPlan(app, provision.Plan(draft, found))
}

// at completes a run with its server.
func (m *making) at(ctx context.Context, central cli.Central, r *provision.Run, server string) (err error) {
	if r.Server, err = cli.FindServer(ctx, central.Catalog, server); err != nil {
		return err
	}
	t := target{r.Server, catalog.NewAuthorities(central.Pool)}.past()
	r.Connect = t.connect
	if err := t.check("the administrator's", r.Admin); err != nil {
		return err
	}
	named := r.Admin
	named.Database = cmp.Or(m.params.DBName, m.params.Name)
	if err := named.Check(r.Server.Transport, r.Server.Hosts); err != nil {
		return cli.Usagef("--dbname: %w", err)
	}
	return nil
}

// held does what is asked, with the intent held.
func (m *making) held(ctx context.Context, app *cli.App, central cli.Central, r *provision.Run, required func() error) error {
	intent, err := r.Hold.Find(ctx)
	switch {
	case errors.Is(err, catalog.ErrNoIntent) && m.abandon:
		return cli.InWords(err, "nothing is to be abandoned: no run of this command on "+cli.Quote(m.params.Name)+" was left unfinished (`headgate database list` shows what is in the catalog, and what was left)")
	case errors.Is(err, catalog.ErrNoIntent):
		if err := required(); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := m.matches(intent); err != nil {
			return err
		}
		m.params.Server, m.params.Kind = intent.Server, intent.Kind
	}
	if err := m.at(ctx, central, r, m.params.Server); err != nil {
		return err
	}
	if m.abandon {
		return m.remove(ctx, app, r, intent)
	}
	return m.make(ctx, app, central, r, intent.ID == "")
}

// matches refuses other choices than those that were begun with.
func (m *making) matches(i catalog.Intent) error {
	command := "`headgate database create %s --server %s --kind %s --dbname %s`"
	if !i.Creates {
		command = "`headgate database adopt %s --server %s --kind %s --dbname %s`"
	}
	begun := cli.Usagef("database %s was begun at %s by %s, as "+command+": run that again, or that with --abandon",
		i.Name, cli.Stamp(i.BegunAt), cli.Quote(i.Actor), i.Name, i.Server, i.Kind, i.DBName)
	for _, v := range [][2]string{{m.params.Server, i.Server}, {m.params.Kind, i.Kind}, {m.params.DBName, i.DBName}} {
		if v[0] != "" && v[0] != v[1] {
			return begun
		}
	}
	if m.params.Creates != i.Creates {
		return begun
	}
	return nil
}

func (m *making) make(ctx context.Context, app *cli.App, central cli.Central, r *provision.Run, fresh bool) error {
	file := appFile{path: m.appFile, transport: r.Server.Transport}
	if err := file.check(fresh); err != nil {
		return err
	}
	var database catalog.Database
	var application address.Address
	r.Try = func(ctx context.Context, conn *pgx.Conn, made provision.Made) error {
		return tryMade(ctx, app, conn, made)
	}
	r.Enter = func(ctx context.Context, tx pgx.Tx, made provision.Made) (err error) {
		i := made.Intent
		params := catalog.DatabaseParams{ID: i.ID, Name: i.Name, Server: i.Server, DBName: i.DBName, Kind: i.Kind, Job: made.Job, Owner: made.Owner, SigningKey: made.SigningKey}
		if database, err = central.Catalog.AddDatabaseTx(ctx, tx, params); err != nil {
			return err
		}
		if r.Server.Pooler != address.NoPooler {
			for login, a := range map[jobs.Login]address.Address{jobs.LoginJob: made.Job, jobs.LoginOwner: made.Owner} {
				if err := central.Catalog.Logins().SetDirectTx(ctx, tx, i.ID, login, a); err != nil {
					return err
				}
			}
		}
		if err := observe(ctx, app, central, tx, &database, m.observe); err != nil {
			return err
		}
		application = made.App
		return file.write(application)
	}
	r.Note = func(sentence string) { app.Say("warning: %s", sentence) }
	if err := r.Make(ctx, m.params); err != nil {
		return err
	}
	m.next(app, r.Server, database)
	if file.path == "-" { // standard output has the address, and nothing else
		return app.Print("%s", appURL(application, file.transport))
	}
	return cli.One(app, database, databaseColumns)
}

func (m *making) next(app *cli.App, server catalog.Server, database catalog.Database) {
	if m.params.Creates && m.appFile == "" {
		app.Say("nobody knows the password of %s_app: have an administrator set one (\\password in psql), or name a file with --app-url-file the next time", database.Name)
	}
	if server.Pooler != address.NoPooler {
		app.Say("the logins' addresses lead past the pooler: tell it of them, then `headgate database login %s`", database.Name)
	}
	app.Say("next: `headgate tenant add SLUG --database %s`", database.Name)
	if database.Kind == catalog.KindShared {
		app.Say("then, for each table that jobs need: `headgate database protect %s --table TABLE`", database.Name)
	} else {
		app.Say("then, for each table that jobs need: GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE TO headgate_job, as its owner in the database")
	}
}

func (m *making) remove(ctx context.Context, app *cli.App, r *provision.Run, intent catalog.Intent) error {
	removed, left, err := r.Abandon(ctx, intent)
	if err != nil {
		return err
	}
	for _, what := range removed {
		app.Say("removed: %s", what)
	}
	for _, what := range left {
		app.Say("left, because this command did not make it: %s", what)
	}
	app.Say("database %s is abandoned: the catalog knows nothing of it any more", intent.Name)
	return nil
}

func printPlan(app *cli.App, plan []provision.Statement) error {
	if app.Output != "table" {
		return cli.List(app, plan, "", planColumns)
	}
	var before provision.Statement
	for _, s := range plan {
		if s.As != before.As || s.Database != before.Database {
			where := "in any database"
			if s.Database != "" {
				where = "in database " + s.Database
			}
			if err := app.Print("-- as %s, %s", s.As, where); err != nil {
				return err
			}
		}
		before = s
		if err := app.Print("%s", s.SQL); err != nil {
			return err
		}
	}
	return nil
}

// selectPublic is whether every login may make things in schema public, as before Postgres 15.
const selectPublic = `SELECT coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('public'), 'CREATE'), false)`

func tryMade(ctx context.Context, app *cli.App, conn *pgx.Conn, made provision.Made) error {
	params := catalog.DatabaseParams{ID: made.Intent.ID, Name: made.Intent.Name, Job: made.Job}
	if err := tryJobLogin(ctx, app, conn, params); err != nil {
		return err
	}
	var open bool
	if err := conn.QueryRow(ctx, selectPublic).Scan(&open); err != nil {
		return err
	}
	if open && made.Intent.Creates {
		app.Say("warning: the job login may make tables and functions in schema public, as on every Postgres before 15: have a superuser run, in database %s: REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO %s",
			made.Intent.DBName, pgx.Identifier{made.Intent.App}.Sanitize())
	}
	return nil
}
