package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const maxHosts = 16

// Server is a Postgres server that holds databases.
type Server struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Hosts     []string          `json:"hosts"`
	Transport address.Transport `json:"transport"`
	Pooler    address.Pooler    `json:"pooler"` // what stands before it
	State     string            `json:"state"`  // open, draining or down
	Budget    int               `json:"budget"` // running jobs and connections, over all worker processes and databases
	Region    string            `json:"region"` // "": none
	CreatedAt time.Time         `json:"created_at"`

	StateReason string    `json:"state_reason"` // why it is not open
	StateBy     string    `json:"state_by"`     // who has decided so last; "": nobody
	StateSince  time.Time `json:"state_since"`
}

// serverColumns are a Server's, of headgate.servers.
const serverColumns = `id::text, name, hosts, transport, pooler, state, connection_budget, coalesce(region, ''), created_at, state_reason, state_by, state_since`

// ServerParams describe a new server.
type ServerParams struct {
	// Name is the server's name in the catalog: [a-z][a-z0-9-]{0,62}, unique.
	Name string

	// Hosts are the only hosts that an address on this server may name, 1 to 16
	// names or IP addresses. For transport socket: directories of the socket.
	Hosts []string

	// Transport says how the server may be reached. "" means address.TLS.
	Transport address.Transport

	// Pooler says what stands before the server. "" means address.NoPooler.
	Pooler address.Pooler

	// Budget is how many jobs may run on the server, connections that are kept
	// included, over all worker processes, databases and logins: 1 to 10000. 0
	// means 20.
	Budget int
}

// AddServer adds a server. It connects to nothing. A taken name is an error
// that matches ErrExists, a wrong parameter is a *jobs.InputError.
func (c *Catalog) AddServer(ctx context.Context, params ServerParams) (Server, error) {
	return c.addServer(ctx, c.pool, params)
}

// AddServerTx is AddServer in the caller's transaction.
func (c *Catalog) AddServerTx(ctx context.Context, tx pgx.Tx, params ServerParams) (Server, error) {
	return c.addServer(ctx, tx, params)
}

func (c *Catalog) addServer(ctx context.Context, db beginner, params ServerParams) (Server, error) {
	params, err := params.checked()
	if err != nil {
		return Server{}, fmt.Errorf("add server: %w", err)
	}
	server, err := within(ctx, db, func(tx pgx.Tx) (Server, error) { return insertServer(ctx, tx, params) })
	if err != nil {
		return Server{}, fmt.Errorf("add server: %w", err)
	}
	return server, nil
}

const serverInsertSQL = `
INSERT INTO headgate.servers (id, name, hosts, transport, pooler, connection_budget)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO NOTHING
RETURNING ` + serverColumns

func insertServer(ctx context.Context, tx pgx.Tx, params ServerParams) (Server, error) {
	rows, err := tx.Query(ctx, serverInsertSQL, newID(), params.Name, params.Hosts, params.Transport, params.Pooler, params.Budget)
	if err != nil {
		return Server{}, err
	}
	server, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Server])
	if errors.Is(err, pgx.ErrNoRows) {
		return Server{}, existsf(nil, "server %q exists already", params.Name)
	}
	return server, err
}

func (p ServerParams) checked() (ServerParams, error) {
	if err := checkName("name", p.Name); err != nil {
		return p, err
	}
	p.Transport = cmp.Or(p.Transport, address.TLS)
	if _, err := address.ParseTransport(string(p.Transport)); err != nil {
		return p, jobs.Inputf("transport", string(p.Transport), "use tls, plain-loopback or socket")
	}
	p.Pooler = cmp.Or(p.Pooler, address.NoPooler)
	if _, err := address.ParsePooler(string(p.Pooler)); err != nil {
		return p, jobs.Inputf("pooler", string(p.Pooler), "use none, transaction or session")
	}
	p.Budget = cmp.Or(p.Budget, defaultBudget)
	if err := checkBudget(p.Budget); err != nil {
		return p, err
	}
	if len(p.Hosts) < 1 || len(p.Hosts) > maxHosts {
		return p, jobs.Inputf("hosts", "", "%d hosts given; a server has 1 to %d", len(p.Hosts), maxHosts)
	}
	p.Hosts = slices.Clone(p.Hosts)
	for i, host := range p.Hosts {
		canonical, err := p.Transport.CheckHost(host)
		if err != nil {
			return p, jobs.Inputf("hosts", plainHost(host), "%v", err)
		}
		if slices.Contains(p.Hosts[:i], canonical) {
			return p, jobs.Inputf("hosts", canonical, "it is given twice: give each host once")
		}
		p.Hosts[i] = canonical
	}
	return p, nil
}

const serversSQL = `
SELECT ` + serverColumns + `
FROM headgate.servers
WHERE name > $1
ORDER BY name
LIMIT $2`

// Servers returns servers by name, 200 or up to 10,000 a page, and the After of the
// next page ("" if nothing follows).
func (c *Catalog) Servers(ctx context.Context, page jobs.Page) (servers []Server, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list servers: %w", err)
	}
	rows, err := c.pool.Query(ctx, serversSQL, page.After, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list servers: %w", err)
	}
	servers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Server])
	if err != nil {
		return nil, "", fmt.Errorf("list servers: %w", err)
	}
	servers, next = jobs.CutPage(servers, limit, func(s Server) string { return s.Name })
	return servers, next, nil
}

// plainHost is a host that may be repeated: what is no host's name may be a whole
// connection string, with its password.
func plainHost(host string) string {
	if strings.ContainsAny(host, "@/=?") {
		return ""
	}
	return host
}

const (
	defaultBudget = 20
	maxBudget     = 10_000
)

func checkBudget(n int) error {
	if n < 1 || n > maxBudget {
		return jobs.Inputf("budget", fmt.Sprint(n), "a server may have 1 to %d jobs and connections, over all worker processes", maxBudget)
	}
	return nil
}

// ServerChange says what of a server is to change; what is nil stays.
type ServerChange struct {
	Budget *int            // 1 to 10,000
	Pooler *address.Pooler // what stands before it
	Region *string         // a region's name, "" for none
}

const setServerSQL = `
UPDATE headgate.servers
SET connection_budget = coalesce($2, connection_budget),
    pooler = coalesce($3, pooler),
    region = CASE WHEN $4::text IS NULL THEN region ELSE nullif($4, '') END
WHERE name = $1
RETURNING ` + serverColumns

// SetServer changes how many jobs and connections a server may have over all
// worker processes, what stands before it, or its region. The next claim goes by the budget;
// running workers follow in what they keep open as soon as they are notified (see
// [Listener]), else within FreshFor. The error for a server that does not exist
// matches ErrUnknownServer, for a region ErrUnknownRegion.
func (c *Catalog) SetServer(ctx context.Context, server string, change ServerChange) (Server, error) {
	changed, err := setServer(ctx, c.pool, server, change)
	c.memory.changed(err, changed.ID)
	return changed, err
}

// SetServerTx is SetServer in the caller's transaction.
func (c *Catalog) SetServerTx(ctx context.Context, tx pgx.Tx, server string, change ServerChange) (Server, error) {
	return setServer(ctx, tx, server, change)
}

func setServer(ctx context.Context, db beginner, server string, change ServerChange) (Server, error) {
	if change.Budget != nil {
		if err := checkBudget(*change.Budget); err != nil {
			return Server{}, fmt.Errorf("set server: %w", err)
		}
	}
	if change.Pooler != nil {
		if _, err := address.ParsePooler(string(*change.Pooler)); err != nil {
			return Server{}, fmt.Errorf("set server: %w", jobs.Inputf("pooler", string(*change.Pooler), "use none, transaction or session"))
		}
	}
	changed, err := within(ctx, db, func(tx pgx.Tx) (Server, error) {
		rows, _ := tx.Query(ctx, setServerSQL, server, change.Budget, change.Pooler, change.Region) // its error is CollectExactlyOneRow's too
		changed, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Server])
		if errors.Is(err, pgx.ErrNoRows) {
			err = fmt.Errorf("%w %s", ErrUnknownServer, shown(server))
		}
		if brokenConstraint(err) == "servers_region_fkey" {
			err = fmt.Errorf("%w %s", ErrUnknownRegion, shown(*change.Region))
		}
		return changed, err
	})
	if err != nil {
		return Server{}, fmt.Errorf("set server: %w", err)
	}
	return changed, nil
}

// serverRow is what an address on a server is judged by.
type serverRow struct {
	id        uuid.UUID
	name      string
	hosts     []string
	transport address.Transport
}

const serverShareSQL = `
SELECT id, name, hosts, transport
FROM headgate.servers
WHERE name = $1
FOR SHARE`

// serverForShare keeps the server's rules as they are until tx ends.
func serverForShare(ctx context.Context, tx pgx.Tx, name string) (s serverRow, err error) {
	err = tx.QueryRow(ctx, serverShareSQL, name).Scan(&s.id, &s.name, &s.hosts, &s.transport)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, fmt.Errorf("%w %s", ErrUnknownServer, shown(name))
	}
	return s, err
}

// admit returns the address in the form that is sealed, or says why it may not
// be used on this server.
func (s serverRow) admit(field string, a address.Address) (address.Address, error) {
	if err := a.Check(s.transport, s.hosts); err != nil {
		return a, jobs.Inputf(field, "", "%v (server %q)", err, s.name)
	}
	return a.Canonical(s.transport), nil
}
