package catalogcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// adding is one `database add`: a row in the central database and a schema in
// the new one, which no transaction can span.
//
//	both logins tried ─▶ central: row written ─▶ new database: schema and mark ─▶ job login tried ─▶ central: COMMIT
//	nothing is changed    not visible yet         committed                        as a worker would
//
// Whatever fails before the schema leaves nothing behind. What fails after it
// leaves a database with a schema and a mark, and no row. The mark is the
// database's id, and that is no random one but follows from the server's id and
// the database's name: so the same command run again finds its own mark and
// goes on, while a database that another Headgate or another entry has marked is
// never taken for it.
type adding struct {
	params   catalog.DatabaseParams
	logins   logins
	takeOver bool
	observe  string // the reason; "": enforced

	directs map[jobs.Login]address.Address // past the server's pooler
}

// databaseID is the id of the database of that name on a server.
func databaseID(server catalog.Server, dbname string) (string, error) {
	id, err := uuid.Parse(server.ID)
	return catalog.DatabaseIDAt(id, dbname).String(), err
}

func addDatabase(ctx context.Context, app *cli.App, add *adding) (err error) {
	if err := add.logins.check(); err != nil {
		return err
	}
	if add.params.Job, err = jobAddress(ctx, app, add.logins); err != nil {
		return err
	}
	if add.params.Owner, err = ownerAddress(ctx, app, add.logins); err != nil {
		return err
	}
	if add.directs, err = directs(ctx, app, add.logins); err != nil {
		return err
	}
	ring, err := app.Keys()
	if err != nil {
		return err
	}
	return app.Open(ctx, ring, func(central cli.Central) error {
		database, err := add.run(ctx, app, central)
		if err != nil {
			return err
		}
		app.Say("next: `headgate tenant add SLUG --database %s`", database.Name)
		return cli.One(app, database, databaseColumns)
	})
}

func (add *adding) run(ctx context.Context, app *cli.App, central cli.Central) (database catalog.Database, err error) {
	server, err := cli.FindServer(ctx, central.Catalog, add.params.Server)
	if err != nil {
		return database, err
	}
	t := target{server, catalog.NewAuthorities(central.Pool)}
	owner, err := t.connect(ctx, "the owner's", add.params.Owner)
	if err != nil {
		return database, err
	}
	defer cli.CloseConn(ctx, owner)
	if direct, ok := add.directs[jobs.LoginOwner]; ok { // installing is better done past the pooler
		past, err := t.past().connect(ctx, "the owner's direct", direct)
		if err != nil {
			return database, err
		}
		defer cli.CloseConn(ctx, past)
		owner = past
	}
	job, err := t.connect(ctx, "the job's", add.params.Job)
	if err != nil {
		return database, err
	}
	defer cli.CloseConn(ctx, job)
	if add.params.ID, err = add.id(ctx, central, server, owner); err != nil {
		return database, err
	}
	add.params.SigningKey = catalog.NewSigningKey()
	installed := false
	err = pgx.BeginFunc(ctx, central.Pool, func(tx pgx.Tx) error {
		if database, err = central.Catalog.AddDatabaseTx(ctx, tx, add.params); err != nil {
			return err
		}
		if err := observe(ctx, app, central, tx, &database, add.observe); err != nil {
			return err
		}
		for login, a := range add.directs {
			if err := central.Catalog.Logins().SetDirectTx(ctx, tx, database.ID, login, a); err != nil {
				return err
			}
		}
		centre, err := add.centre(ctx, app, central, tx)
		if err != nil {
			return err
		}
		if _, err := migrations.UpTenant(ctx, owner, migrations.Identity{DatabaseID: add.params.ID, SigningKey: add.params.SigningKey, Centre: centre}, nil); err != nil {
			return fmt.Errorf("installing in database %s: %w", add.params.Name, err)
		}
		installed = true
		if err := tryJobLogin(ctx, app, job, add.params); err != nil {
			return err
		}
		if direct, ok := add.directs[jobs.LoginJob]; ok {
			return t.past().try(ctx, jobs.LoginJob, direct, database)
		}
		return nil
	})
	if err != nil && installed {
		err = fmt.Errorf("%w; Headgate's schema is in the database, the catalog has no entry for it yet: run the command again, that is safe", err)
	}
	return database, err
}

// centre is the mark that is left in a fresh database, before a copy of the central
// database can leave its own. A database that is taken over may bear another's, and is
// adopted.
func (add *adding) centre(ctx context.Context, app *cli.App, central cli.Central, tx pgx.Tx) (mark string, err error) {
	if add.takeOver {
		_, err := central.Catalog.AdoptTx(ctx, tx, catalog.AdoptParams{Database: add.params.ID, Actor: app.Actor()})
		return "", err
	}
	return catalog.CentreMark(ctx, tx)
}

const selectMark = `SELECT database_id::pg_catalog.text FROM headgate.identity`

// id is the id under which the database enters the catalog: the one that
// follows from its place, or with --take-over the one it is marked with, if no entry
// of this catalog has that. It refuses a database that is in the catalog.
func (add *adding) id(ctx context.Context, central cli.Central, server catalog.Server, owner *pgx.Conn) (string, error) {
	own, err := databaseID(server, add.params.Owner.Database)
	if err != nil {
		return "", err
	}
	if err := migrations.RefuseForeign(ctx, owner); err != nil { // before a relation of that name is read with the owner's rights
		return "", fmt.Errorf("looking at database %q: %w", add.params.Owner.Database, err)
	}
	var mark string
	err = owner.QueryRow(ctx, selectMark).Scan(&mark)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"), errors.Is(err, pgx.ErrNoRows):
		return own, nil // a fresh one
	case err != nil:
		return "", fmt.Errorf("looking for the mark of an earlier installation in database %q: %w", add.params.Owner.Database, err)
	}
	databases, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return central.Catalog.Databases(ctx, page) })
	if err != nil {
		return "", err
	}
	for _, d := range databases {
		switch {
		case d.ID == mark && mark == own:
			return "", fmt.Errorf("database %q of server %s %w, as %s in the catalog", d.DBName, d.Server, catalog.ErrExists, d.Name)
		case d.ID == mark:
			return "", fmt.Errorf("%w: %q is marked as database %s of this catalog (%s on server %s); it cannot be a second one",
				migrations.ErrOtherDatabase, add.params.Owner.Database, d.Name, d.DBName, d.Server)
		}
	}
	if mark == own { // of an attempt that did not get to its end
		return own, nil
	}
	if !add.takeOver {
		return "", fmt.Errorf("%w: %q is marked %s, which this catalog does not know; another Headgate may be working on it; if that entry is gone for good, run the command again with --take-over",
			migrations.ErrOtherDatabase, add.params.Owner.Database, mark)
	}
	return mark, nil
}

const selectAllPowerful = `SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user`

// tryJobLogin does with the job login what a worker does first.
func tryJobLogin(ctx context.Context, app *cli.App, conn *pgx.Conn, params catalog.DatabaseParams) error {
	if err := whoami(ctx, conn, params.Job, catalog.Database{ID: params.ID, Name: params.Name}); err != nil {
		return err
	}
	var powerful bool
	if err := conn.QueryRow(ctx, selectAllPowerful).Scan(&powerful); err != nil {
		return fmt.Errorf("asking for the rights of the job login: %w", err)
	}
	if says, next := session.Encoding(conn.PgConn().ParameterStatus("server_encoding")); says != "" {
		app.Say("warning: %s; %s", says, next)
	}
	if powerful {
		app.Say("warning: the job login %q is a superuser or passes row-level security by: nothing holds its jobs to their tenant's rows", params.Job.User)
	}
	return nil
}
