package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// lookAtServer looks at the databases that were chosen of one server, one after
// the other, with two connections at a time.
func (d *doctor) lookAtServer(ctx context.Context, c *catalog.Catalog, server catalog.Server, databases []catalog.Database) {
	on := "server " + server.Name
	note := d.on(on)
	if server.State != "open" {
		note(StateWarn, "state", "`headgate server resume "+server.Name+"`", "it is %s since %s by %s (%s): nothing starts there", server.State, cli.Stamp(server.StateSince), cli.Quote(server.StateBy), server.StateReason)
	}
	if len(databases) == 0 {
		note(StateOK, "databases", "", "it has none that was looked at; `headgate server remove "+server.Name+"` takes out one that was entered by mistake")
		return
	}
	many := d.logins(ctx, c, on, databases) > 1
	looked, answers, reached, locked := false, false, false, false
	for _, db := range databases {
		for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
			found, err := d.lookAtDatabase(ctx, c, db, login, server.Hosts, many)
			if errors.Is(err, jobs.ErrDatabaseDetached) {
				continue
			}
			if class, _ := tenantdb.Classify(err); class == jobs.ClassUndecryptable { // nobody has asked the server
				locked = true
				continue
			}
			looked = true
			answers = answers || err == nil || answered(err)
			if err != nil || reached {
				continue
			}
			reached = true
			d.judgePooler(on, found, server.Pooler, "`headgate server set "+server.Name+" --pooler %s`")
		}
	}
	switch {
	case answers:
		note(StateOK, "reachable", "", "it answers")
		return
	case !looked && locked:
		note(StateOK, "databases", "", "nobody has asked it: no key of the ring opens the addresses of its databases, as these say")
		return
	case !looked:
		note(StateOK, "databases", "", "those that were to be looked at are detached")
		return
	}
	note(StateFail, "reachable", "see what its databases say", "it answers for none of its databases, of which %s looked at", jobs.CountVerb(len(databases), "database", "was", "were"))
}

// logins warns of databases of one server that have one job login, and counts the job logins.
// What does not open is told of its database.
func (d *doctor) logins(ctx context.Context, c *catalog.Catalog, on string, databases []catalog.Database) int {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	note, first, told := d.on(on), map[string]string{}, map[string]bool{}
	for _, db := range databases {
		place, err := c.ResolveDatabase(ctx, db.ID, jobs.LoginJob)
		if err != nil {
			continue
		}
		a, err := place.Open(ctx)
		if err != nil {
			continue
		}
		other, shared := first[a.User]
		switch {
		case !shared:
			first[a.User] = db.Name
		case !told[a.User]:
			told[a.User] = true
			note(StateWarn, "job logins", "give each database a login of its own: an administrator's CREATE ROLE … LOGIN PASSWORD … IN ROLE headgate_job, then `headgate database login "+db.Name+"`",
				"databases %s and %s have one job login: who learns its password gets into both", other, db.Name)
		}
	}
	return len(first)
}

// answered says that an error is what the server has said, so that it can be reached.
func answered(err error) bool {
	var said *pgconn.PgError
	switch class, _ := tenantdb.Classify(err); class {
	case jobs.ClassUnreachable, jobs.ClassConnectTimeout, jobs.ClassUntrusted, "":
		return errors.As(err, &said)
	}
	return true
}

// lookAtDatabase connects twice as one login and says what stands between. many says that its
// server has several job logins.
func (d *doctor) lookAtDatabase(ctx context.Context, c *catalog.Catalog, db catalog.Database, login jobs.Login, hosts []string, many bool) (found address.Pooler, err error) {
	note := d.on("database " + db.Name)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pools := tenantdb.New(tenantdb.Config{MaxConns: 2, Logger: d.app.Log, Centre: d.centre})
	defer pools.Close()
	place, err := c.ResolveDatabase(ctx, db.ID, login)
	if errors.Is(err, jobs.ErrDatabaseDetached) {
		note(StateWarn, login.String()+" login", "when it is where it is to be: `headgate database reattach "+db.Name+"`",
			"it is detached since %s by %s (%s), so nobody has looked; its jobs wait", cli.Stamp(db.StateSince), cli.Quote(db.StateBy), db.StateReason)
		return "", err
	}
	if err != nil {
		note(StateFail, login.String()+" login", "", "%v", err)
		return "", err
	}
	said := place.Pooler
	place.Budget = 0 // two connections, for a moment
	cautious := place
	cautious.Pooler = address.TransactionPooler // works whatever stands between
	found, err = d.twice(ctx, c, pools, place, db, login)
	if err != nil && said != cautious.Pooler {
		if seen, again := d.twice(ctx, c, pools, cautious, db, login); again == nil {
			found, err = seen, nil
		}
	}
	if class, _ := tenantdb.Classify(err); class == jobs.ClassSchemaOlder {
		note(StateWarn, login.String()+" login", "nothing: the first job that a worker runs there brings it up to date", "%v", err)
		return "", err
	}
	if err != nil {
		note(StateFail, login.String()+" login", nextOf(err, db, hosts)+d.remade(ctx, c, db, err), "%v", err)
		return "", err
	}
	note(StateOK, login.String()+" login", "", "it logs in; the database is the one that the catalog means, and its Headgate schema fits")
	if many && login == jobs.LoginJob {
		d.connectable(ctx, c, pools, place, db)
	}
	d.past(ctx, pools, db, place, said)
	d.replica(ctx, pools, db, place)
	return found, nil
}

// twice connects twice, and looks at what the first connection can tell.
func (d *doctor) twice(ctx context.Context, c *catalog.Catalog, pools *tenantdb.Pools, place address.Place, db catalog.Database, login jobs.Login) (found address.Pooler, err error) {
	err = pools.With(ctx, place, func(held context.Context, a *tenantdb.Conn) error {
		err := pools.With(held, place, func(ctx context.Context, b *tenantdb.Conn) (err error) {
			found, err = detectPooler(ctx, a.Conn, b.Conn)
			return err
		})
		if err == nil && login == jobs.LoginJob {
			d.certificate(a.Conn, db)
			d.encoding(a.Conn, db)
			d.brakes(held, a.Conn, db)
			d.isolation(held, a.Conn, db)
			d.callable(held, a.Conn, db)
			d.owned(held, c, a.Conn, db)
		}
		if err == nil && login == jobs.LoginOwner {
			d.organisations(held, c, a.Conn, db)
		}
		return err
	})
	return found, err
}

// encoding names a database whose text is not kept as UTF-8.
func (d *doctor) encoding(conn *pgx.Conn, db catalog.Database) {
	if says, next := session.Encoding(conn.PgConn().ParameterStatus("server_encoding")); says != "" {
		d.on("database "+db.Name)(StateWarn, "encoding", next, "%s", says)
	}
}

// selectBrakes asks for the two defaults that Headgate does not overrule.
const selectBrakes = `
SELECT pg_catalog.current_setting('default_transaction_read_only')::pg_catalog.bool, pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica'`

// brakes says which default keeps jobs from their work: those that somebody must have
// meant, or that only a superuser can take back.
func (d *doctor) brakes(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	note := d.on("database " + db.Name)
	var readOnly, untriggered bool
	switch err := conn.QueryRow(ctx, selectBrakes).Scan(&readOnly, &untriggered); {
	case err != nil:
		note(StateFail, "settings", "see that the job login may connect and read", "could not look: %v", err)
	case readOnly:
		note(StateFail, "settings", "ask who set it (a host does when a disk is full); then ALTER ROLE, or DATABASE, … RESET default_transaction_read_only",
			"default_transaction_read_only is on for the job login: jobs that write wait, class read_only")
	case untriggered:
		note(StateFail, "settings", "a superuser's ALTER ROLE, or DATABASE, … RESET session_replication_role",
			"session_replication_role is replica for the job login: no trigger fires and no foreign key holds, so jobs wait")
	}
}

// past tries the direct address of a login behind a pooler in transaction mode.
func (d *doctor) past(ctx context.Context, pools *tenantdb.Pools, db catalog.Database, place address.Place, said address.Pooler) {
	if said != address.TransactionPooler {
		return
	}
	note, check := d.on("database "+db.Name), place.Login+" direct address"
	direct, err := tenantdb.Session(place)
	if err != nil {
		note(StateWarn, check, sprintf("set HEADGATE_%s_DIRECT_URL and run `headgate database login %s`", strings.ToUpper(place.Login), db.Name),
			"it has none, so kinds that need a session (VACUUM, those outside a transaction) wait")
		return
	}
	err = pools.With(ctx, direct, func(ctx context.Context, conn *tenantdb.Conn) error {
		backend, err := backendOf(ctx, conn.Conn)
		if err == nil && backend != conn.PgConn().PID() {
			err = errors.New("it leads through a pooler too")
		}
		return err
	})
	if err != nil {
		note(StateFail, check, "correct it with `headgate database login "+db.Name+"`", "%v", err)
		return
	}
	note(StateOK, check, "", "it leads past the pooler")
}

func sqlstateOf(err error) string {
	_, sqlstate := tenantdb.Classify(err)
	return sqlstate
}

// nextOf is the next step for an error whose sentence does not say it.
func nextOf(err error, db catalog.Database, hosts []string) string {
	if refused := (*tenantdb.NotPermittedError)(nil); errors.As(err, &refused) {
		return refused.Next
	}
	switch class, _ := tenantdb.Classify(err); class {
	case jobs.ClassWrongDatabase:
		return explain.Elsewhere(db.Name, sqlstateOf(err))
	case jobs.ClassWrongCentre:
		return "see which central database is to work it, stop `headgate serve` and the workers of the other, then, on the right one: `headgate central adopt --database " + db.Name + "`"
	case jobs.ClassUndecryptable:
		return "add the key that sealed it to the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE), or store the address again with `headgate database login " + db.Name + "`"
	case jobs.ClassServerFull:
		return "raise the limit that the sentence names (max_connections of the server, or CONNECTION LIMIT of the database or role), or give Headgate fewer connections: `headgate server set " + db.Server + " --budget N`"
	case jobs.ClassSchemaNewer:
		return "upgrade headgate"
	case jobs.ClassUntrusted:
		return "what the sentence says; a renewed authority: `headgate ca add NAME FILE --replace`"
	case jobs.ClassAuthFailed:
		return "give the catalog the right login: `headgate database login " + db.Name + "`"
	}
	return explain.Unanswered(db.Name, db.Server, hosts)
}
