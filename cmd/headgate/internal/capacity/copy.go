package capacity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// namePattern is how the copies are called. The administrator's session of a run has the
// name of its copy (application_name), from before the copy is made until it is gone.
const (
	namePrefix  = "headgate_capacity_"
	namePattern = "^headgate_capacity_[0-9a-f]{12}$"
)

// evidence is a copy's comment.
const evidence = "headgate: a copy for a capacity test"

// silence is how long the administrator's session may be silent before the server ends it.
// A run looks at the connections ten times a second.
const silence = time.Minute

// dropTime bounds the removal of a copy.
const dropTime = time.Minute

// duplicate is a copy of a database on its server.
type duplicate struct {
	name       string
	of         string         // the catalog's name of the database that is meant
	id         string         // by which it knows its workers
	signingKey address.Secret // the same
	job, owner address.Address
	admin      *pgx.Conn
	again      func(ctx context.Context) (*pgx.Conn, error) // opens the administrator's session
}

// openAdmin opens the administrator's session under a name.
func (r *Run) openAdmin(ctx context.Context, name string) (*pgx.Conn, error) {
	conn, err := r.Connect(ctx, "the administrator's", r.Admin)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, setSession, name, fmt.Sprintf("%dms", silence.Milliseconds())); err != nil {
		cli.CloseConn(ctx, conn)
		return nil, fmt.Errorf("naming the session on the server: %w", err)
	}
	return conn, nil
}

const setSession = `
SELECT pg_catalog.set_config('application_name', $1, false), pg_catalog.set_config('idle_session_timeout', $2, false)`

// duplicate copies the template, or leaves nothing.
func (r *Run) duplicate(ctx context.Context) (d *duplicate, err error) {
	name := newName()
	d = &duplicate{
		name: name, of: r.Database, id: uuid.NewString(), signingKey: catalog.NewSigningKey(), job: r.login(r.Job, name), owner: r.login(r.Owner, name),
		again: func(ctx context.Context) (*pgx.Conn, error) { return r.openAdmin(ctx, name) },
	}
	if d.admin, err = d.again(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.drop(ctx))
			d = nil
		}
	}()
	if err := r.clear(ctx, d.admin); err != nil {
		return d, err
	}
	if err := r.look(ctx, d.admin, name); err != nil {
		return d, err
	}
	if err := r.create(ctx, d); err != nil {
		return d, err
	}
	return d, r.install(ctx, d)
}

func newName() string {
	raw := make([]byte, 6)
	_, _ = rand.Read(raw) // never fails
	return namePrefix + hex.EncodeToString(raw)
}

// login is one of the database's logins at the copy. It goes where the administrator goes,
// past a pooler.
func (r *Run) login(of address.Address, dbname string) address.Address {
	a := r.Admin
	a.Database, a.User, a.Password = dbname, of.User, of.Password
	return a
}

// selectTemplate asks of the template ($1) whether the administrator may copy it, who is in
// it, and how large it is, -1 where the administrator may not know.
const selectTemplate = `
SELECT r.rolsuper OR r.rolcreatedb, r.rolsuper OR d.datistemplate OR pg_has_role(d.datdba, 'USAGE'),
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL)::int,
       CASE WHEN r.rolsuper OR has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) ELSE -1 END,
       pg_get_userbyid(d.datdba)::text, r.rolname::text, pg_is_in_recovery()
FROM pg_database d, pg_roles r
WHERE d.datname = $1 AND r.rolname = current_user`

// look says what keeps the template from being copied, before anything is made.
func (r *Run) look(ctx context.Context, conn *pgx.Conn, name string) error {
	var may, mayThis, standby bool
	var sessions int
	var size int64
	var owner, admin string
	err := conn.QueryRow(ctx, selectTemplate, r.Template).Scan(&may, &mayThis, &sessions, &size, &owner, &admin, &standby)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return cli.Usagef("server %s has no database %s: --template names one that lies there", r.Server.Name, cli.Quote(r.Template))
	case err != nil:
		return fmt.Errorf("looking at database %s: %w", r.Template, err)
	case standby:
		return cli.Usagef("the server is a standby, which takes no writes: give the primary's address")
	case !may:
		return cli.NotPermittedf("the administrator's login %s may not make databases: have a superuser run ALTER ROLE %s CREATEDB, or give another login's address", cli.Quote(admin), quote(admin))
	case !mayThis:
		return cli.NotPermittedf("the administrator's login %s may not copy database %s, which is %s's: have that role or a superuser run GRANT %s TO %s, or give another login's address",
			cli.Quote(admin), cli.Quote(r.Template), owner, quote(owner), quote(admin))
	case sessions > 0:
		return r.occupied(sessions)
	}
	r.Say("database %s (%s) is copied to %s on server %s; the copy is dropped at the end", r.Template, sizeText(size), name, r.Server.Name)
	return nil
}

// occupied says that Postgres copies no database that somebody is connected to.
func (r *Run) occupied(sessions int) error {
	return cli.Usagef("%s connected to database %s, and Postgres copies only a database that nobody is connected to: restore a backup of it beside, on server %s, and name that with --template",
		jobs.CountVerb(sessions, "session", "is", "are"), cli.Quote(r.Template), r.Server.Name)
}

func sizeText(bytes int64) string {
	switch {
	case bytes < 0:
		return "of unknown size"
	case bytes >= 10<<30:
		return fmt.Sprintf("%d GB", bytes>>30)
	}
	return fmt.Sprintf("%d MB", bytes>>20)
}

// create makes the copy. Nobody can enter before it is closed to all but the two logins: a
// new database lets everybody in.
func (r *Run) create(ctx context.Context, d *duplicate) error {
	name := quote(d.name)
	for _, sql := range []string{
		fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s ALLOW_CONNECTIONS false`, name, quote(r.Template)),
		fmt.Sprintf(`COMMENT ON DATABASE %s IS '%s'`, name, evidence),
		fmt.Sprintf(`REVOKE ALL ON DATABASE %s FROM PUBLIC`, name),
		fmt.Sprintf(`GRANT CONNECT ON DATABASE %s TO %s, %s`, name, quote(d.job.User), quote(d.owner.User)),
		fmt.Sprintf(`GRANT CREATE ON DATABASE %s TO %s`, name, quote(d.owner.User)),
		fmt.Sprintf(`ALTER DATABASE %s ALLOW_CONNECTIONS true`, name),
	} {
		_, err := d.admin.Exec(ctx, sql)
		var pgErr *pgconn.PgError
		switch {
		case errors.As(err, &pgErr) && pgErr.Code == "55006": // somebody has connected since
			return r.occupied(1)
		case errors.As(err, &pgErr) && pgErr.Code == "42704":
			return fmt.Errorf("the logins of database %s are not on this server: %w", r.Database, err)
		case err != nil:
			return fmt.Errorf("copying database %s: %w", r.Template, err)
		}
	}
	return nil
}

const selectIdentity = `SELECT database_id::text FROM headgate.identity`

// install gives the copy an identity and a signing key of its own, so that no worker takes
// the copy for the database, or the database for the copy. What the template remembers of
// organisations that were moved or erased would refuse the jobs of the test's.
func (r *Run) install(ctx context.Context, d *duplicate) error {
	conn, err := r.Connect(ctx, "the owner's", d.owner)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	identity := migrations.Identity{DatabaseID: d.id, SigningKey: d.signingKey}
	var mark string
	err = conn.QueryRow(ctx, selectIdentity).Scan(&mark)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"), errors.Is(err, pgx.ErrNoRows):
		// a template without Headgate's schema
	case err != nil:
		return fmt.Errorf("asking the copy whose it is: %w", err)
	default:
		if err := migrations.Succeed(ctx, conn, mark, identity); err != nil {
			return err
		}
	}
	if _, err := migrations.UpTenant(ctx, conn, identity, nil); err != nil {
		return fmt.Errorf("installing in the copy: %w", err)
	}
	if err := migrations.Forget(ctx, conn); err != nil {
		return err
	}
	if !r.Mix.own() {
		return nil
	}
	if _, err := conn.Exec(ctx, ownTable); err != nil {
		return fmt.Errorf("making the table of the built-in mix in the copy: %w", err)
	}
	return nil
}

// drop removes the copy and closes the administrator's session. The context may have ended.
func (d *duplicate) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	defer func() { cli.CloseConn(ctx, d.admin) }()
	if d.admin.IsClosed() { // a statement was broken off, or somebody has ended the session
		conn, err := d.again(ctx)
		if err != nil {
			return fmt.Errorf("the copy %s stays on the server; the next test there drops it, or `headgate database capacity %s --clean`: %w", d.name, d.of, err)
		}
		d.admin = conn
	}
	if _, err := d.admin.Exec(ctx, endOthers, d.name, dropTime.Milliseconds()/2); err != nil {
		return fmt.Errorf("ending the session that made the copy %s: %w", d.name, err)
	}
	return dropCopy(ctx, d.admin, d.name)
}

// endOthers ends the sessions of this run ($1) that were broken off: a CREATE DATABASE may
// go on in one.
const endOthers = `
SELECT pg_terminate_backend(pid, $2) FROM pg_stat_activity
WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()`

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
