package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Run is one run of a command, which holds the intent.
type Run struct {
	Hold   *catalog.IntentHold
	Ring   *catalog.KeyRing
	Admin  address.Address // used for this run and kept nowhere
	Server catalog.Server

	// Connect opens a connection past the server's pooler. whose is for its errors.
	Connect func(ctx context.Context, whose string, a address.Address) (*pgx.Conn, error)

	// Try does with the job login what a worker does first.
	Try func(ctx context.Context, conn *pgx.Conn, m Made) error

	// Note hears what an operator should know besides.
	Note func(sentence string)

	// Enter puts the database into the catalog.
	Enter func(ctx context.Context, tx pgx.Tx, m Made) error
}

// Made is a database with its logins, before it is in the catalog.
type Made struct {
	Intent          catalog.Intent
	Job, Owner, App address.Address // App is zero where the database was adopted
	SigningKey      address.Secret  // of this run, which gives it to the database and to the catalog
}

// idle is how long a session on the server may be silent: less than what the lock's session
// may, so that it ends first.
const idle = catalog.IntentIdle / 2

const setIdle = `SELECT pg_catalog.set_config('idle_session_timeout', $1, false)`

// connect opens a session that ends when this process is silent.
func (r *Run) connect(ctx context.Context, whose string, a address.Address) (*pgx.Conn, error) {
	conn, err := r.Connect(ctx, whose, a)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, setIdle, fmt.Sprintf("%dms", idle.Milliseconds())); err != nil {
		cli.CloseConn(ctx, conn)
		return nil, fmt.Errorf("bounding the session on the server: %w", err)
	}
	return conn, nil
}

// admin connects as the administrator, to the database of the administrator's address or to
// another one.
func (r *Run) admin(ctx context.Context, dbname string) (*pgx.Conn, error) {
	a := r.Admin
	if dbname != "" {
		a.Database = dbname
	}
	return r.connect(ctx, "the administrator's", a)
}

// Adopted is what was found of a database that exists.
type Adopted struct{ adopted }

// Make does what wanted says, or goes on with what an earlier run has begun. Whatever can be
// wrong with logins, rights and names is found before anything is written.
func (r *Run) Make(ctx context.Context, wanted catalog.IntentParams) (err error) {
	intent, passwords, known, err := r.begin(ctx, wanted)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			noted, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = r.Hold.Failed(noted, err.Error()) // the error itself is told
			err = fmt.Errorf("%w; %s", err, intent.Next())
		}
	}()
	v := verifiers{}
	password := map[string]address.Secret{intent.Job: passwords.Job, intent.Owner: passwords.Owner, intent.App: passwords.App}
	for _, role := range intent.Roles() {
		if v[role], err = verifier(password[role]); err != nil {
			return err
		}
	}
	made := r.made(intent, passwords)
	for _, s := range steps(intent, v, known.adopted) {
		if err := r.do(ctx, made, s); err != nil {
			return err
		}
	}
	if err := r.tryJob(ctx, made); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	for _, note := range known.Notes(intent) {
		r.Note(note)
	}
	return r.Hold.End(ctx, func(tx pgx.Tx) error { return r.Enter(ctx, tx, made) })
}

// begin finds the intent or writes it, after everything was looked at that can be known before.
func (r *Run) begin(ctx context.Context, wanted catalog.IntentParams) (i catalog.Intent, p catalog.Passwords, known *Adopted, err error) {
	i, err = r.Hold.Find(ctx)
	fresh := errors.Is(err, catalog.ErrNoIntent)
	switch {
	case fresh:
		if err = r.Hold.Check(ctx, wanted); err != nil {
			return i, p, nil, err
		}
		i, _ = wanted.Draft() // Check has done it
	case err != nil:
		return i, p, nil, err
	default:
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w; %s", err, i.Next())
			}
		}()
		if p, err = r.Hold.Passwords(ctx, r.Ring); err != nil {
			return i, p, nil, err
		}
	}
	if known, err = r.look(ctx, i); err != nil {
		return i, p, nil, err
	}
	if fresh {
		i, p, err = r.Hold.Begin(ctx, r.Ring, wanted)
	}
	return i, p, known, err
}

// look judges what is on the server.
func (r *Run) look(ctx context.Context, i catalog.Intent) (*Adopted, error) {
	conn, err := r.admin(ctx, "")
	if err != nil {
		return nil, err
	}
	defer cli.CloseConn(ctx, conn)
	a, err := lookAtAdmin(ctx, conn, i.Creates)
	if err != nil {
		return nil, err
	}
	f, err := look(ctx, conn, i)
	if err != nil {
		return nil, err
	}
	if err := f.refuse(i); err != nil {
		return nil, err
	}
	if err := lookAtGroup(ctx, conn, a); err != nil {
		return nil, err
	}
	if i.Creates {
		return &Adopted{}, nil
	}
	return r.lookInside(ctx, i, a)
}

// Look is what a plan for a database that exists must know.
func (r *Run) Look(ctx context.Context, i catalog.Intent) (*Adopted, error) { return r.look(ctx, i) }

func (r *Run) made(i catalog.Intent, p catalog.Passwords) Made {
	login := func(user string, password address.Secret) address.Address {
		a := r.Admin
		a.Database, a.User, a.Password = i.DBName, user, password
		return a
	}
	m := Made{Intent: i, SigningKey: catalog.NewSigningKey(), Job: login(i.Job, p.Job), Owner: login(i.Owner, p.Owner)}
	if i.Creates {
		m.App = login(i.App, p.App)
	}
	return m
}

// do does one step: it connects, writes in the central database that the step begins, and
// begins it.
func (r *Run) do(ctx context.Context, m Made, s step) error {
	conn, err := r.as(ctx, m, s)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	defer cli.CloseConn(ctx, conn)
	if err := r.Hold.Step(ctx, s.name); err != nil {
		return err
	}
	err = r.onServer(ctx, conn, m, s)
	switch {
	case err != nil && conn.IsClosed() && ctx.Err() == nil:
		return fmt.Errorf("%s: the session on the server was lost; the server ends it when this program is silent for %s, or somebody has ended it: %w", s.name, idle, err)
	case err != nil:
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// onServer is the part of a step that happens on the server.
func (r *Run) onServer(ctx context.Context, conn *pgx.Conn, m Made, s step) error {
	if s.install {
		return r.install(ctx, conn, m)
	}
	f, err := look(ctx, conn, m.Intent)
	if err != nil {
		return err
	}
	if err := f.refuse(m.Intent); err != nil {
		return err
	}
	if s.whole {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return run(ctx, tx, s, f) })
	}
	if err := run(ctx, conn, s, f); err != nil {
		return err
	}
	return r.reopen(ctx, conn, m.Intent, f)
}

func (r *Run) as(ctx context.Context, m Made, s step) (*pgx.Conn, error) {
	switch {
	case s.as == asApp:
		return r.connect(ctx, "the application's", m.App)
	case s.as == asOwner:
		return r.connect(ctx, "the owner's", m.Owner)
	case s.inside:
		return r.admin(ctx, m.Intent.DBName)
	}
	return r.admin(ctx, "")
}

// execer is a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func run(ctx context.Context, db execer, s step, f found) error {
	for _, st := range s.statements {
		if f.has(st) {
			continue
		}
		if _, err := db.Exec(ctx, st.sql); err != nil {
			return inWords(err)
		}
	}
	return nil
}

// inWords adds to what a server says what can be done about it.
func inWords(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42P04" {
		return fmt.Errorf("%w: a CREATE DATABASE whose program was ended may have gone on, or somebody has made the database in this moment", err)
	}
	return err
}

// reopen lets connections in again that an interrupted --abandon has shut out.
func (r *Run) reopen(ctx context.Context, conn *pgx.Conn, i catalog.Intent, f found) error {
	if !f.ours(i) || !f.closed {
		return nil
	}
	return r.asRole(ctx, conn, i.App, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS true", quote(i.DBName)))
}

// asRole runs statements as a role that the administrator has made.
func (r *Run) asRole(ctx context.Context, conn *pgx.Conn, role string, statements ...string) error {
	err := execAll(ctx, conn, append([]string{fmt.Sprintf("GRANT %s TO CURRENT_USER", quote(role)), "SET ROLE " + quote(role)}, statements...)...)
	return errors.Join(err, execAll(ctx, conn, "RESET ROLE", fmt.Sprintf("REVOKE %s FROM CURRENT_USER", quote(role))))
}

func execAll(ctx context.Context, db execer, statements ...string) error {
	for _, sql := range statements {
		if _, err := db.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// install makes Headgate's schema as its owner, and leaves the central database's mark.
func (r *Run) install(ctx context.Context, conn *pgx.Conn, m Made) error {
	mark, err := r.Hold.CentreMark(ctx)
	if err != nil {
		return err
	}
	_, err = migrations.UpTenant(ctx, conn, migrations.Identity{DatabaseID: m.Intent.ID, SigningKey: m.SigningKey, Centre: mark}, nil)
	return err
}

func (r *Run) tryJob(ctx context.Context, m Made) error {
	conn, err := r.connect(ctx, "the job's", m.Job)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	if err := r.Hold.Step(ctx, "login"); err != nil {
		return err
	}
	return r.Try(ctx, conn, m)
}
