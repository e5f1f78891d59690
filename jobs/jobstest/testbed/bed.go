package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Config says what a bed is to be.
type Config struct {
	// Server is where the central database is made, and tenant databases unless their
	// DatabaseOpts name another. nil means a private Postgres that Close stops.
	Server *Server

	// Prefix begins the names of all databases and roles of the bed: letters, digits
	// and underscores. "" means testbed_ and six bytes of chance.
	Prefix string

	// Central is the central database's name on the server. "" means the prefix.
	Central string

	// CentralOwner gives the central database a login of its own, of the same name, which
	// owns it and migrates it. Nobody else may enter, superusers excepted. Without it
	// the superuser does.
	CentralOwner bool

	// Adopt says that the central database is there: the bed takes it as it is, and
	// does not drop it.
	Adopt bool

	// Key is the catalog's key, as HEADGATE_KEY has it. The zero Secret means a new key
	// whose name is KeyName, or "testbed".
	Key     address.Secret
	KeyName string

	// Conns is how many connections Pool has at most. 0 means pgxpool's default.
	Conns int

	// Pool opens the central database in another way, such as through a pooler. nil
	// means as the superuser or the owner. The bed closes the pool.
	Pool func(ctx context.Context, dbname string) (*pgxpool.Pool, error)

	// Notify hears sentences about a private Postgres that has to be fetched.
	Notify func(sentence string)
}

// Bed is a central database with its catalog, and the tenant databases that have been
// made since. Its methods are safe for concurrent use.
type Bed struct {
	Server  *Server
	DBName  string // of the central database
	URL     string // of the central database; holds a password
	Pool    *pgxpool.Pool
	Key     address.Secret
	Keys    *catalog.KeyRing
	Catalog *catalog.Catalog

	prefix string
	count  atomic.Int64 // of the tenant databases
	kept   atomic.Bool
	undo   undo

	mu   sync.Mutex // also held while a server is entered in the catalog
	done map[string]bool
}

// Open makes a central database and an empty catalog, or leaves nothing.
func Open(ctx context.Context, cfg Config) (b *Bed, err error) {
	b = &Bed{Server: cfg.Server, Key: cfg.Key, prefix: cmp.Or(cfg.Prefix, "testbed_"+random(6)), done: map[string]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close(ctx))
			b = nil
		}
	}()
	if b.Server == nil {
		if err := b.startServer(ctx, cfg.Notify); err != nil {
			return b, err
		}
	}
	b.DBName = cmp.Or(cfg.Central, b.prefix)
	login, err := b.makeCentral(ctx, cfg)
	if err != nil {
		return b, err
	}
	b.URL = b.urlOf(login)
	switch {
	case cfg.Pool != nil:
		b.Pool, err = cfg.Pool(ctx, b.DBName)
	case login != nil:
		b.Pool, err = b.Server.PoolAs(ctx, *login, cfg.Conns)
	default:
		b.Pool, err = b.Server.Pool(ctx, b.DBName, cfg.Conns)
	}
	if err != nil {
		return b, fmt.Errorf("opening the central database: %w", err)
	}
	b.undo.later(func(context.Context) error { b.Pool.Close(); return nil })
	if b.Key == (address.Secret{}) {
		b.Key = catalog.NewKey(cmp.Or(cfg.KeyName, "testbed"))
	}
	if b.Keys, err = catalog.NewKeyRing(b.Key); err != nil {
		return b, err
	}
	b.Catalog = catalog.New(b.Pool, b.Keys)
	return b, nil
}

// startServer starts a private Postgres that Close stops.
func (b *Bed) startServer(ctx context.Context, notify func(string)) error {
	server, err := localpg.Start(ctx, localpg.Config{Notify: notify})
	if err != nil {
		return err
	}
	b.undo.later(func(context.Context) error { return server.Stop() })
	b.Server, err = Local("", server)
	return err
}

// makeCentral makes the central database, and returns its owner's login if it has one.
func (b *Bed) makeCentral(ctx context.Context, cfg Config) (*address.Address, error) {
	s := b.Server
	switch {
	case cfg.Adopt:
		return nil, nil
	case !cfg.CentralOwner:
		template, err := s.centralSource(ctx)
		if err != nil {
			return nil, err
		}
		if err := b.create(ctx, &b.undo, s, b.DBName, template); err != nil {
			return nil, err
		}
		return nil, s.upCentral(ctx, b.DBName)
	}
	owner := s.login(b.DBName, b.DBName)
	if err := b.create(ctx, &b.undo, s, b.DBName, "template0", newLogin{owner, ""}); err != nil {
		return nil, err
	}
	if err := s.Exec(ctx, b.DBName, closeTo(owner)...); err != nil {
		return nil, fmt.Errorf("giving database %s to its owner: %w", b.DBName, err)
	}
	return &owner, s.As(ctx, owner, func(conn *pgx.Conn) error { return up(ctx, conn) })
}

// create makes logins and a database from a template, and puts off dropping them.
func (b *Bed) create(ctx context.Context, u *undo, s *Server, dbname, template string, logins ...newLogin) error {
	err := s.On(ctx, admin, func(conn *pgx.Conn) error {
		for _, l := range logins {
			create, err := l.create(ctx, conn)
			if err == nil {
				err = b.exec(ctx, conn, create, u, s, func(ctx context.Context) error { return s.dropRole(ctx, l.User) })
			}
			if err != nil {
				return fmt.Errorf("making login %s: %w", l.User, err)
			}
		}
		return b.exec(ctx, conn, createDatabase(conn, dbname, template), u, s, func(ctx context.Context) error { return s.Drop(ctx, dbname) })
	})
	if err != nil {
		return fmt.Errorf("making database %s from %s: %w", dbname, template, err)
	}
	return nil
}

// exec makes something that is to be dropped. What was there before is somebody else's,
// and stays; after any other error the server may still have made the thing.
func (b *Bed) exec(ctx context.Context, conn *pgx.Conn, sql string, u *undo, s *Server, drop func(context.Context) error) error {
	ctx, cancel := whole(ctx)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	var said *pgconn.PgError
	if !errors.As(err, &said) || said.Code != "42P04" && said.Code != "42710" { // duplicate database, duplicate role
		b.dropLater(u, s, drop)
	}
	return err
}

// urlOf is the central database's address, of a server without TLS.
func (b *Bed) urlOf(login *address.Address) string {
	cfg := b.Server.Admin.ConnConfig
	user, password := cfg.User, cfg.Password
	if login != nil {
		user, password = login.User, login.Password.Reveal()
	}
	at := url.Values{"host": {cfg.Host}, "port": {strconv.Itoa(int(cfg.Port))}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Path: "/" + b.DBName, RawQuery: at.Encode()}
	return u.String()
}

// Empty makes an empty database that Close drops.
func (b *Bed) Empty(ctx context.Context, dbname string) error {
	return b.create(ctx, &b.undo, b.Server, dbname, "template0")
}

// Keep makes Close, and Drop of a database, leave everything on its server.
func (b *Bed) Keep() { b.kept.Store(true) }

// Close closes the pool and drops everything that the bed has made, last things first.
func (b *Bed) Close(ctx context.Context) error { return b.undo.run(ctx) }

// dropLater puts off what need not be done on a server that goes as a whole.
func (b *Bed) dropLater(u *undo, s *Server, drop func(context.Context) error) {
	u.later(func(ctx context.Context) error {
		if b.kept.Load() || s.Disposable {
			return nil
		}
		return drop(ctx)
	})
}

// once does a thing the first time only.
func (b *Bed) once(what string, do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done[what] {
		b.done[what] = true
		do()
	}
}

// Enter enters a server in the catalog, unless it is there.
func (b *Bed) Enter(ctx context.Context, s *Server) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done["in the catalog: "+s.name()] {
		return nil
	}
	_, err := b.Catalog.AddServer(ctx, s.params())
	if err != nil && !errors.Is(err, catalog.ErrExists) {
		return fmt.Errorf("entering server %s in the catalog: %w", s.name(), err)
	}
	b.done["in the catalog: "+s.name()] = true
	return nil
}
