package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const databaseReattachLong = `Say where a database is from now on: under another name on its server (--dbname), on
another server (--server, --host), with other logins (HEADGATE_JOB_URL and
HEADGATE_OWNER_URL, or the flags). What is not given stays as it is. The jobs of a
detached database run again.

The database is asked first. It must bear the identity that the catalog has of it, or
nothing is written. With --adopt one that bears none, because it was dropped and made
anew, gets Headgate's schema and the identity; and one that bears the identity of an
entry that this catalog does not have becomes this one. Its jobs of before are not
known to it: those that wait run there, also if they had run in the database of before.

After a failure run the command again, that is safe.`

// reattaching is one `database reattach`.
type reattaching struct {
	name, server, dbname, host string
	logins                     logins
	adopt, dryRun              bool
}

func databaseReattach(app *cli.App) *cobra.Command {
	var r reattaching
	cmd := &cobra.Command{
		Use:     "reattach NAME [--server SERVER] [--dbname DBNAME] [--host HOST] [--adopt]",
		Short:   "Say where a database is after it was moved or restored",
		Long:    databaseReattachLong,
		Example: "  headgate database reattach acme --dbname acme_new\n  headgate database reattach acme --server eu-2 --host db2.internal\n  headgate database reattach acme --adopt",
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		r.name = args[0]
		directs, err := directs(ctx, app, r.logins)
		if err != nil {
			return err
		}
		given, err := givenLogins(ctx, app, r.logins, true)
		if err != nil {
			return err
		}
		ring, err := app.Keys()
		if err != nil {
			return err
		}
		return app.Open(ctx, ring, func(central cli.Central) error { return r.run(ctx, app, central, given, directs) })
	})
	cmd.Flags().StringVar(&r.server, "server", "", "the server of the catalog that it lies on now (default: the one it lay on)")
	cmd.Flags().StringVar(&r.dbname, "dbname", "", "its name on the server now (default: the one it had)")
	cmd.Flags().StringVar(&r.host, "host", "", "the host of the server that its addresses name now (default: as given, or the one they named)")
	cmd.Flags().BoolVar(&r.adopt, "adopt", false, "also a database without Headgate's schema, or with the identity of an entry that is gone")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "only look whether it is the database and may be installed in, and say how many tenants live there")
	r.logins.flags(cmd)
	return cmd
}

func (r *reattaching) run(ctx context.Context, app *cli.App, central cli.Central, given, directs map[jobs.Login]address.Address) error {
	database, err := cli.FindDatabase(ctx, central.Catalog, r.name)
	if err != nil {
		return err
	}
	server, err := cli.FindServer(ctx, central.Catalog, cmp.Or(r.server, database.Server))
	if err != nil {
		return err
	}
	to := catalog.Reattachment{Database: database.Name, Server: server.Name, DBName: r.dbname, Directs: directs, Actor: app.Actor()}
	if to.Job, err = r.address(ctx, app, central, database, server, jobs.LoginJob, given, to.Directs); err != nil {
		return err
	}
	if to.Owner, err = r.address(ctx, app, central, database, server, jobs.LoginOwner, given, to.Directs); err != nil {
		return err
	}
	return r.connect(ctx, app, central, database, server, to)
}

// address is the one that a login has from now on: as given, or the present one with the
// parts that are given. A direct address that is not given follows if it named the same host
// and database.
func (r *reattaching) address(ctx context.Context, app *cli.App, central cli.Central, database catalog.Database, server catalog.Server, login jobs.Login, given, directs map[jobs.Login]address.Address) (address.Address, error) {
	a, ok := given[login]
	if ok {
		return r.moved(a), nil
	}
	place, err := central.Catalog.Hosting().Place(ctx, database.ID, login)
	if err != nil {
		return a, err
	}
	if a, err = place.Open(ctx); err != nil {
		return a, fmt.Errorf("%w: give it anew, with HEADGATE_%s_URL", err, map[jobs.Login]string{jobs.LoginJob: "JOB", jobs.LoginOwner: "OWNER"}[login])
	}
	if server.ID != database.ServerID { // its own port, and what the other transport says of TLS
		a.SSLMode = ""
	}
	if _, given := directs[login]; !given && place.OpenDirect != nil {
		switch direct, err := place.OpenDirect(ctx); {
		case err == nil && server.ID == database.ServerID && (r.dbname == "" || direct.Database == a.Database) && (r.host == "" || direct.Host == a.Host):
			directs[login] = r.moved(direct)
		default:
			app.Say("the %s login's address past the pooler does not follow: `headgate database login %s` sets it", login, database.Name)
		}
	}
	return r.moved(a), nil
}

// moved is an address with the parts that the flags give.
func (r *reattaching) moved(a address.Address) address.Address {
	a.Host, a.Database, a.Roots = cmp.Or(r.host, a.Host), cmp.Or(r.dbname, a.Database), ""
	return a
}

// connect asks the database who it is, and writes what was found.
func (r *reattaching) connect(ctx context.Context, app *cli.App, central cli.Central, database catalog.Database, server catalog.Server, to catalog.Reattachment) error {
	t := target{server, catalog.NewAuthorities(central.Pool)}
	owner, err := t.connect(ctx, "the owner's", to.Owner)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, owner)
	job, err := t.connect(ctx, "the job's", to.Job)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, job)
	mark, err := r.mark(ctx, central, database, owner, to.Owner)
	if err != nil {
		return err
	}
	if r.dryRun {
		if err := r.rehearse(ctx, central, owner, database, mark); err != nil {
			return err
		}
		cli.SayDryRun(app, "")
		return cli.One(app, catalog.Concerned{Databases: 1, Tenants: database.Tenants, DryRun: true}, concernedColumns)
	}
	if database.ReadAddress {
		app.Say("the read address does not follow: `headgate database login %s` with HEADGATE_JOB_READ_URL sets one", database.Name)
	}
	adopted := false
	if to.SigningKey, err = r.signingKey(ctx, central, database); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, central.Pool, func(tx pgx.Tx) error {
		if database, err = central.Catalog.Hosting().ReattachTx(ctx, tx, to); err != nil {
			return err
		}
		if r.adopt {
			if err := r.install(ctx, tx, owner, database, mark, to.SigningKey); err != nil {
				return err
			}
			adopted = true
		}
		if err := whoami(ctx, job, to.Job, database); err != nil {
			return err
		}
		for login, a := range to.Directs {
			if err := t.past().try(ctx, login, a, database); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && adopted {
		return fmt.Errorf("%w; the database has its identity, the catalog is as it was: run the command again, that is safe", err)
	}
	if err != nil {
		return err
	}
	app.Say("database %s is database %s on server %s; the jobs of %s run there", database.Name, database.DBName, database.Server, jobs.Count(database.Tenants, "tenant"))
	if adopted && mark == "" {
		app.Say("its ledger is empty: `headgate database restored %s --to TIME`, with the moment that the rows there are of, says which jobs had their effect in the database of before", database.Name)
	}
	if adopted && database.Kind == catalog.KindShared {
		app.Say("next: `headgate database protect %s` says which tables keep tenants apart", database.Name)
	}
	return cli.One(app, database, databaseOneColumns())
}

// signingKey is the key that the database is to have: the catalog's, so that a run that did
// not get to its end has left the right one; a new one if nobody can open that.
func (r *reattaching) signingKey(ctx context.Context, central cli.Central, database catalog.Database) (address.Secret, error) {
	place, err := central.Catalog.Hosting().Place(ctx, database.ID, jobs.LoginOwner)
	if err != nil {
		return address.Secret{}, err
	}
	key, err := place.SigningKey(ctx)
	if errors.Is(err, address.ErrUndecryptable) {
		return catalog.NewSigningKey(), nil
	}
	return key, err
}

// mark is the identity that the database bears, "" for none. It is refused if the catalog
// may not take it for this one.
func (r *reattaching) mark(ctx context.Context, central cli.Central, database catalog.Database, owner *pgx.Conn, a address.Address) (mark string, err error) {
	if err := migrations.RefuseForeign(ctx, owner); err != nil { // before a relation of that name is read with the owner's rights
		if entryErr := r.ofAnotherEntry(ctx, central, database, a); entryErr != nil {
			return "", entryErr // what is advised of a schema of others would take that database from its owner
		}
		return "", fmt.Errorf("looking at database %q: %w", a.Database, err)
	}
	err = owner.QueryRow(ctx, selectMark).Scan(&mark)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"), errors.Is(err, pgx.ErrNoRows):
		mark = ""
	case err != nil:
		return "", fmt.Errorf("asking database %q who it is: %w", a.Database, err)
	}
	again := "`headgate database reattach " + database.Name + " --adopt`"
	switch {
	case mark == database.ID:
		return mark, nil
	case mark == "" && !r.adopt:
		return "", noIdentityError(fmt.Sprintf("%s bears no identity: if it was made anew to take the place of %s, %s gives it Headgate's schema and the identity (with the same further flags)", a, database.Name, again))
	case mark == "":
		return "", nil
	}
	other, err := central.Catalog.Hosting().Database(ctx, mark)
	switch {
	case err == nil:
		return "", fmt.Errorf("%w: %s bears the identity of database %s of this catalog, so its rows are that one's tenants'", migrations.ErrOtherDatabase, a, other.Name)
	case !errors.Is(err, jobs.ErrUnknownDatabase):
		return "", err
	case !r.adopt:
		return "", fmt.Errorf("%w: %s bears the identity %s, which this catalog does not have: of an entry that was removed, or of another Headgate, which may be working on it; if that one is gone for good, %s makes it %s (with the same further flags)",
			migrations.ErrOtherDatabase, a, mark, again, database.Name)
	}
	return mark, nil
}

// ofAnotherEntry is the error if the catalog knows the database under another name.
func (r *reattaching) ofAnotherEntry(ctx context.Context, central cli.Central, database catalog.Database, a address.Address) error {
	databases, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return central.Catalog.Databases(ctx, page) })
	if err != nil {
		return err
	}
	for _, other := range databases {
		if other.ID != database.ID && other.Server == cmp.Or(r.server, database.Server) && other.DBName == a.Database {
			return fmt.Errorf("%w: %s is database %s of this catalog, so its rows are that one's tenants'; give the name that %s has now", migrations.ErrOtherDatabase, a, other.Name, database.Name)
		}
	}
	return nil
}

// noIdentityError matches migrations.ErrOtherDatabase, and does not say that an empty database
// belongs to another entry.
type noIdentityError string

func (e noIdentityError) Error() string { return string(e) }
func (e noIdentityError) Unwrap() error { return migrations.ErrOtherDatabase }

// rehearse does in the database what an adoption does there, and undoes it: the dry run is
// refused what the run would be.
func (r *reattaching) rehearse(ctx context.Context, central cli.Central, owner *pgx.Conn, database catalog.Database, mark string) error {
	if !r.adopt {
		return nil
	}
	key, err := r.signingKey(ctx, central, database)
	if err != nil {
		return err
	}
	identity := migrations.Identity{DatabaseID: cmp.Or(mark, database.ID), SigningKey: key}
	if _, err := migrations.UpTenant(ctx, owner, identity, &migrations.UpOpts{DryRun: true}); err != nil {
		return fmt.Errorf("the run would fail: installing in database %s: %w", database.Name, err)
	}
	return nil
}

// install gives the database the identity of its entry.
func (r *reattaching) install(ctx context.Context, tx pgx.Tx, owner *pgx.Conn, database catalog.Database, mark string, key address.Secret) error {
	centre, err := catalog.CentreMark(ctx, tx)
	if err != nil {
		return err
	}
	identity := migrations.Identity{DatabaseID: database.ID, SigningKey: key, Centre: centre}
	if mark != "" && mark != database.ID {
		if err := migrations.Succeed(ctx, owner, mark, identity); err != nil {
			return err
		}
	}
	if _, err := migrations.UpTenant(ctx, owner, identity, nil); err != nil {
		return fmt.Errorf("installing in database %s: %w", database.Name, err)
	}
	return nil
}
