package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
)

// Hosting changes what tenants' rows lie on: servers, their hosts and regions, and
// databases. It is safe for concurrent use, and as a Catalog's its writes have a form that
// takes the caller's transaction, which works inside a savepoint.
//
// Errors match ErrUnknownServer, ErrUnknownRegion, jobs.ErrUnknownDatabase, ErrExists for a
// taken name, ErrReferred, or are a *jobs.InputError. Other Catalogs see a change as soon as
// they are notified (see [Listener]), else within FreshFor.
type Hosting struct{ c *Catalog }

// Hosting is what changes the catalog's servers and databases.
func (c *Catalog) Hosting() *Hosting { return &Hosting{c} }

// Concerned is how many databases and tenants a change is about.
type Concerned struct {
	Databases int  `json:"databases"`
	Tenants   int  `json:"tenants"` // that live in them, whatever their status
	DryRun    bool `json:"dry_run"` // nothing was changed
}

const serverSQL = `SELECT ` + serverColumns + ` FROM headgate.servers WHERE name = $1`

// Server returns the server of that name.
func (h *Hosting) Server(ctx context.Context, name string) (Server, error) {
	rows, _ := h.c.pool.Query(ctx, serverSQL, name) // its error is CollectExactlyOneRow's too
	server, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Server])
	return server, noServer(err, name)
}

// noServer says which server is not there.
func noServer(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w %s", ErrUnknownServer, shown(name))
	}
	return err
}

const concernedSQL = `
SELECT count(*), coalesce(sum(headgate.tenants_in(d.id)), 0)
FROM headgate.servers s JOIN headgate.databases d ON d.server_id = s.id
WHERE s.name = $1`

// Concerned counts the databases of a server and their tenants.
func (h *Hosting) Concerned(ctx context.Context, server string) (n Concerned, err error) {
	if _, err := h.Server(ctx, server); err != nil {
		return n, err
	}
	err = h.c.pool.QueryRow(ctx, concernedSQL, server).Scan(&n.Databases, &n.Tenants)
	return n, err
}

const serverForUpdateSQL = `
SELECT ` + serverColumns + `
FROM headgate.servers
WHERE name = $1
FOR UPDATE`

// serverForUpdate keeps everybody from entering a database on the server, or an address that
// names a host of the server, until tx ends.
func serverForUpdate(ctx context.Context, tx pgx.Tx, name string) (Server, error) {
	rows, _ := tx.Query(ctx, serverForUpdateSQL, name) // its error is CollectExactlyOneRow's too
	server, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Server])
	return server, noServer(err, name)
}

// changeServer is a change of a server's row, in a transaction of its own or the caller's.
func (h *Hosting) changeServer(ctx context.Context, db beginner, what, name string, change func(tx pgx.Tx, server Server) (Server, error)) (Server, error) {
	server, err := within(ctx, db, func(tx pgx.Tx) (Server, error) {
		server, err := serverForUpdate(ctx, tx, name)
		if err != nil {
			return Server{}, err
		}
		return change(tx, server)
	})
	if err != nil {
		return Server{}, fmt.Errorf("%s: %w", what, err)
	}
	return server, nil
}

const renameServerSQL = `
UPDATE headgate.servers SET name = $2
WHERE id = $1
RETURNING ` + serverColumns

// RenameServer gives a server another name in the catalog. Nothing but people and commands
// goes by the name.
func (h *Hosting) RenameServer(ctx context.Context, name, to string) (Server, error) {
	server, err := h.renameServer(ctx, h.c.pool, name, to)
	h.c.memory.changed(err, server.ID)
	return server, err
}

// RenameServerTx is RenameServer in the caller's transaction.
func (h *Hosting) RenameServerTx(ctx context.Context, tx pgx.Tx, name, to string) (Server, error) {
	return h.renameServer(ctx, tx, name, to)
}

func (h *Hosting) renameServer(ctx context.Context, db beginner, name, to string) (Server, error) {
	if err := checkName("name", to); err != nil {
		return Server{}, fmt.Errorf("rename server: %w", err)
	}
	return h.changeServer(ctx, db, "rename server", name, func(tx pgx.Tx, server Server) (Server, error) {
		return writeServer(ctx, tx, to, renameServerSQL, server.ID, to)
	})
}

// writeServer runs a statement that returns the server's row; name is the one that it may
// find taken.
func writeServer(ctx context.Context, tx pgx.Tx, name, sql string, args ...any) (Server, error) {
	rows, _ := tx.Query(ctx, sql, args...) // its error is CollectExactlyOneRow's too
	server, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Server])
	if constraint, _ := violation(err); constraint == "servers_name_key" {
		return server, existsf(err, "server %q exists already", name)
	}
	return server, err
}

// Decision is who changes a state, and why.
type Decision struct {
	Reason string // up to 500 characters
	Actor  string
}

func (d Decision) checked() (Decision, error) {
	d.Reason = strings.TrimSpace(d.Reason)
	return d, jobs.CheckText("reason", d.Reason, maxReason)
}

const setServerStateSQL = `
UPDATE headgate.servers SET state = $2, state_reason = $3, state_by = $4, state_since = now()
WHERE id = $1
RETURNING ` + serverColumns

// Drain lets no further job start on a server: its tenants' jobs wait and use no attempt.
// Running jobs go on to their end. Without a reason a server that drains already stays as it is.
func (h *Hosting) Drain(ctx context.Context, server string, why Decision) (Server, error) {
	changed, err := h.setState(ctx, h.c.pool, "drain server", server, "draining", why)
	h.c.memory.changed(err, changed.ID)
	return changed, err
}

// DrainTx is Drain in the caller's transaction.
func (h *Hosting) DrainTx(ctx context.Context, tx pgx.Tx, server string, why Decision) (Server, error) {
	return h.setState(ctx, tx, "drain server", server, "draining", why)
}

// Resume opens a server that was drained.
func (h *Hosting) Resume(ctx context.Context, server string, why Decision) (Server, error) {
	changed, err := h.setState(ctx, h.c.pool, "resume server", server, "open", why)
	h.c.memory.changed(err, changed.ID)
	return changed, err
}

// ResumeTx is Resume in the caller's transaction.
func (h *Hosting) ResumeTx(ctx context.Context, tx pgx.Tx, server string, why Decision) (Server, error) {
	return h.setState(ctx, tx, "resume server", server, "open", why)
}

func (h *Hosting) setState(ctx context.Context, db beginner, what, server, state string, why Decision) (Server, error) {
	why, err := why.checked()
	if err != nil {
		return Server{}, fmt.Errorf("%s: %w", what, err)
	}
	return h.changeServer(ctx, db, what, server, func(tx pgx.Tx, s Server) (Server, error) {
		if err := access.Say(ctx, tx, why.Actor, why.Reason); err != nil {
			return s, err
		}
		if s.State == state && why.Reason == "" {
			return s, nil // who has decided so before, and why, stays
		}
		return writeServer(ctx, tx, "", setServerStateSQL, s.ID, state, why.Reason, why.Actor)
	})
}

// referringSQL is what refers to a server: of which sort, and its name.
const referringSQL = `
SELECT 'database', d.name FROM headgate.databases d WHERE d.server_id = $1
UNION ALL
SELECT CASE WHEN i.creates THEN 'create' ELSE 'adopt' END, i.name FROM headgate.database_intents i WHERE i.server_id = $1
UNION ALL
SELECT 'pause', s.name FROM headgate.pauses p JOIN headgate.servers s ON s.id::text = p.target WHERE p.scope = 'server' AND s.id = $1
UNION ALL
SELECT c.kind, c.name FROM headgate.closures c WHERE c.server_id = $1
ORDER BY 1, 2`

// referring says of each sort what it is, and how it is taken away. NAME is its name, OF the
// name of what it refers to.
var referring = map[string]string{
	"database":    "database NAME lies there, which `headgate database reattach NAME --server SERVER` moves and `headgate database remove NAME` takes out",
	"create":      "database NAME is being made there, which `headgate database create NAME --abandon` ends",
	"adopt":       "database NAME is being adopted there, which `headgate database adopt NAME --abandon` ends",
	"pause":       "it is paused, which `headgate resume server NAME` ends",
	"blackout":    "blackout NAME is for it, which `headgate schedule blackout delete NAME` removes",
	"maintenance": "maintenance window NAME is for it, which `headgate schedule maintenance-window delete NAME` removes",
	"server":      "server NAME is in it, which `headgate server set NAME --region REGION` changes",
	"schedule":    "schedule NAME is for it, which `headgate schedule delete NAME --database OF` removes",
}

const serverDeleteSQL = `DELETE FROM headgate.servers WHERE id = $1`

// RemoveServer takes a server out of the catalog. It is refused while a database lies there
// or is being made there, and while a pause, a blackout or a maintenance window is for it.
func (h *Hosting) RemoveServer(ctx context.Context, server string) error {
	_, err := h.removeServer(ctx, h.c.pool, server)
	return err
}

// RemoveServerTx is RemoveServer in the caller's transaction.
func (h *Hosting) RemoveServerTx(ctx context.Context, tx pgx.Tx, server string) error {
	_, err := h.removeServer(ctx, tx, server)
	return err
}

func (h *Hosting) removeServer(ctx context.Context, db beginner, name string) (Server, error) {
	return h.changeServer(ctx, db, "remove server", name, func(tx pgx.Tx, server Server) (Server, error) {
		if err := refuseReferred(ctx, tx, "server", server.Name, referringSQL, server.ID); err != nil {
			return server, err
		}
		_, err := tx.Exec(ctx, serverDeleteSQL, server.ID)
		return server, err
	})
}

// maxReferring bounds how many a sentence names.
const maxReferring = 5

// refuseReferred is an error that names what a query finds. what is "server", name its name.
func refuseReferred(ctx context.Context, tx pgx.Tx, what, name, sql string, args ...any) error {
	var found []string
	var sort, by string
	count := 0
	rows, _ := tx.Query(ctx, sql, args...) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&sort, &by}, func() error {
		if count++; count <= maxReferring {
			found = append(found, strings.NewReplacer("NAME", by, "OF", name).Replace(referring[sort]))
		}
		return nil
	})
	if err != nil || count == 0 {
		return err
	}
	if more := count - len(found); more > 0 {
		found = append(found, fmt.Sprintf("and %d more", more))
	}
	return &sentenceError{sentence: fmt.Sprintf("%s %q is not removed: %s", what, name, strings.Join(found, "; ")), is: ErrReferred}
}
