package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// ResolveTenant answers a worker: who the tenant with this UUID is, and where
// the login of its database is to be found. It answers from memory (see [Memory]
// for how old an answer may be), else by one query that reads three rows by
// primary key. Errors match jobs.ErrUnknownTenant, jobs.ErrTenantMoving,
// jobs.ErrTenantSuspended for every other status than active, jobs.ErrDatabaseDetached,
// or ErrUnavailable.
func (c *Catalog) ResolveTenant(ctx context.Context, tenantID string, login jobs.Login) (jobs.Tenant, address.Place, error) {
	id, ok := fit.UUID(tenantID)
	if !ok {
		return jobs.Tenant{}, address.Place{}, fmt.Errorf("%w: %s is not the UUID of one", jobs.ErrUnknownTenant, shown(tenantID))
	}
	q := question{by: byJobLogin, id: id}
	if login == jobs.LoginOwner {
		q.by = byOwnerLogin
	}
	a, err := c.remembered(ctx, q)
	switch {
	case err != nil:
		return jobs.Tenant{}, address.Place{}, fmt.Errorf("resolve tenant %s: %w", id, err)
	case !a.known:
		return jobs.Tenant{}, address.Place{}, fmt.Errorf("%w: no tenant has the UUID %s", jobs.ErrUnknownTenant, id)
	}
	if err := a.tenant.mayWork(); err != nil {
		return jobs.Tenant{}, address.Place{}, err
	}
	if err := mayConnect(a.state, a.place.Database); err != nil {
		return jobs.Tenant{}, address.Place{}, err
	}
	place := *a.place
	place.OrgID, place.OrgKey, place.Generation = a.tenant.OrgID, a.tenant.OrgKey, a.tenant.Generation
	return a.own().Tenant, place, nil
}

const resolveTenantSQL = `
SELECT ` + tenantFields + `,
       coalesce(d.id, '00000000-0000-0000-0000-000000000000'), coalesce(d.name, ''), coalesce(d.kind = 'dedicated', false), coalesce(d.protection = 'observe', false),
       CASE WHEN $2 THEN d.owner_login ELSE d.job_login END,
       coalesce(CASE WHEN $2 THEN d.owner_version ELSE d.job_version END, 0),
       CASE WHEN $2 THEN d.owner_direct ELSE d.job_direct END,
       coalesce(CASE WHEN $2 THEN d.owner_direct_version ELSE d.job_direct_version END, 0),
       CASE WHEN NOT $2 THEN d.job_read END, coalesce(d.job_read_version, 0), d.signing_key,
       coalesce(s.id, '00000000-0000-0000-0000-000000000000'), coalesce(s.name, ''), coalesce(s.connection_budget, 0), coalesce(s.transport, ''), s.hosts, coalesce(s.pooler, ''), coalesce(d.state, 'attached'),
       ` + versionFields + tenantRows + `WHERE t.id = $1`

// askPlace asks who a tenant is and where it lives.
func (c *Catalog) askPlace(ctx context.Context, q question) (*answer, error) {
	var a answer
	row := placeRow{login: jobs.LoginJob}
	if q.by == byOwnerLogin {
		row.login = jobs.LoginOwner
	}
	err := c.pool.QueryRow(ctx, resolveTenantSQL, q.id, row.login == jobs.LoginOwner).Scan(slices.Concat(a.tenant.targets(), []any{
		&row.databaseID, &row.database, &row.dedicated, &row.observed, &row.sealed, &row.version, &row.direct, &row.directVersion, &row.read, &row.readVersion, &row.signingKey, &row.serverID, &row.server, &row.budget, &row.transport, &row.hosts, &row.pooler, &a.state,
	}, a.versions.targets())...)
	if errors.Is(err, pgx.ErrNoRows) {
		return &answer{}, nil
	}
	if err != nil {
		return nil, err
	}
	a.known, a.ids = true, [3]uuid.UUID{q.id, row.databaseID, row.serverID}
	a.place = c.places.of(placeVersion{row.databaseID, row.login, a.versions.database, a.versions.server}, func() address.Place { return c.place(row) })
	return &a, nil
}

func (t Tenant) mayWork() error {
	switch t.Status {
	case Active:
		return nil
	case Moving:
		return fmt.Errorf("%w: %q", jobs.ErrTenantMoving, t.Slug)
	}
	if t.StatusReason != "" {
		return fmt.Errorf("%w: %q has status %s (%s)", jobs.ErrTenantSuspended, t.Slug, t.Status, t.StatusReason)
	}
	return fmt.Errorf("%w: %q has status %s", jobs.ErrTenantSuspended, t.Slug, t.Status)
}

// mayConnect refuses a detached database.
func mayConnect(state DatabaseState, name string) error {
	if state == Attached {
		return nil
	}
	return fmt.Errorf("%w: %q waits for `headgate database reattach %s`", jobs.ErrDatabaseDetached, name, name)
}

const resolveDatabaseSQL = `
SELECT d.id, d.name, d.kind = 'dedicated', d.protection = 'observe',
       CASE WHEN $3 THEN d.owner_login ELSE d.job_login END,
       CASE WHEN $3 THEN d.owner_version ELSE d.job_version END,
       CASE WHEN $3 THEN d.owner_direct ELSE d.job_direct END,
       CASE WHEN $3 THEN d.owner_direct_version ELSE d.job_direct_version END,
       CASE WHEN NOT $3 THEN d.job_read END, d.job_read_version, d.signing_key,
       s.id, s.name, s.connection_budget, s.transport, s.hosts, s.pooler, d.state
FROM headgate.databases d
JOIN headgate.servers s ON s.id = d.server_id
WHERE d.name = $1 OR d.id = $2`

// ResolveDatabase says where a login of the database with this name or UUID is
// to be found, for work on the database as a whole. The error for one that does
// not exist matches jobs.ErrUnknownDatabase, for one that is detached
// jobs.ErrDatabaseDetached.
func (c *Catalog) ResolveDatabase(ctx context.Context, nameOrUUID string, login jobs.Login) (address.Place, error) {
	place, state, err := c.databasePlace(ctx, nameOrUUID, login)
	if err == nil {
		err = mayConnect(state, place.Database)
	}
	if err != nil {
		return address.Place{}, err
	}
	return place, nil
}

func (c *Catalog) databasePlace(ctx context.Context, nameOrUUID string, login jobs.Login) (place address.Place, state DatabaseState, err error) {
	name, id := nameOrID(nameOrUUID)
	row := placeRow{login: login}
	err = c.pool.QueryRow(ctx, resolveDatabaseSQL, name, id, login == jobs.LoginOwner).Scan(
		&row.databaseID, &row.database, &row.dedicated, &row.observed, &row.sealed, &row.version, &row.direct, &row.directVersion, &row.read, &row.readVersion, &row.signingKey, &row.serverID, &row.server, &row.budget, &row.transport, &row.hosts, &row.pooler, &state)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return place, state, fmt.Errorf("%w %s", jobs.ErrUnknownDatabase, shown(nameOrUUID))
	case err != nil:
		return place, state, fmt.Errorf("resolve database %s: %w", shown(nameOrUUID), err)
	}
	return c.place(row), state, nil
}

// placeRow is what a resolving query says of a database: one login, sealed, and
// the rules of its server.
type placeRow struct {
	databaseID    uuid.UUID
	database      string
	dedicated     bool
	observed      bool
	login         jobs.Login
	sealed        []byte
	version       int
	direct        []byte // nil: there is no direct address
	directVersion int
	read          []byte // nil: there is no read address
	readVersion   int
	signingKey    []byte
	serverID      uuid.UUID
	server        string
	budget        int
	transport     address.Transport
	hosts         []string
	pooler        address.Pooler
}

func (c *Catalog) place(row placeRow) address.Place {
	place := address.Place{
		ServerID: row.serverID.String(), Server: row.server, Budget: row.budget,
		DatabaseID: row.databaseID.String(), Database: row.database, Dedicated: row.dedicated, Observed: row.observed,
		Login: row.login.String(), Transport: row.transport, Pooler: row.pooler, Version: row.version,
		Reload: func(ctx context.Context) (address.Place, error) {
			return c.ResolveDatabase(ctx, row.databaseID.String(), row.login)
		},
		Open: func(ctx context.Context) (address.Address, error) {
			a, err := c.openAddress(ctx, row, columnOf(row.login), row.version, row.sealed)
			if err != nil {
				return address.Address{}, fmt.Errorf("the %s address of database %q: %w", row.login, row.database, err)
			}
			return a, nil
		},
		SigningKey: func(context.Context) (address.Secret, error) {
			key, err := c.ring.open(row.databaseID, signingColumn, signingVersion, row.signingKey)
			if err != nil {
				return address.Secret{}, fmt.Errorf("the signing key of database %q: %w", row.database, err)
			}
			return address.NewSecret(string(key)), nil
		},
	}
	if row.direct != nil {
		place.DirectVersion = row.directVersion
		place.OpenDirect = func(ctx context.Context) (address.Address, error) {
			a, err := c.openAddress(ctx, row, directColumnOf(row.login), row.directVersion, row.direct)
			if err != nil {
				return address.Address{}, fmt.Errorf("the direct %s address of database %q: %w", row.login, row.database, err)
			}
			return a, nil
		}
	}
	if row.read != nil {
		place.ReadVersion = row.readVersion
		place.OpenRead = func(ctx context.Context) (address.Address, error) {
			a, err := c.openAddress(ctx, row, readColumn, row.readVersion, row.read)
			if err != nil {
				return address.Address{}, fmt.Errorf("the read address of database %q: %w", row.database, err)
			}
			return a, nil
		}
	}
	return place
}

// openAddress unseals, holds the address to what the server's row says now, and puts the
// certificates of its authority into it.
func (c *Catalog) openAddress(ctx context.Context, row placeRow, column string, version int, sealed []byte) (address.Address, error) {
	a, err := c.unseal(row.databaseID, column, version, sealed)
	if err != nil {
		return address.Address{}, err
	}
	if err := a.Check(row.transport, row.hosts); err != nil {
		return address.Address{}, fmt.Errorf("it does not fit its server any more: %w", err)
	}
	if a.RootCert != "" {
		if a.Roots, err = c.roots.of(ctx, c.pool, a.RootCert, c.memory.now()); err != nil {
			return address.Address{}, err
		}
	}
	return a, nil
}

// places shares one place among the tenants of a database: what is remembered of
// a tenant would else hold its own copy of the address and the server's rules. It
// may forget at any time, which costs the next answers a copy.
type places struct {
	mu    sync.Mutex
	known map[placeVersion]*address.Place
}

// placeVersion is one login of a database, as its row and its server's were.
type placeVersion struct {
	database             uuid.UUID
	login                jobs.Login
	ofDatabase, ofServer uint32 // xmin
}

// maxPlaces bounds them.
const maxPlaces = 4096

// of returns the place of that version, which nobody changes.
func (p *places) of(v placeVersion, make func() address.Place) *address.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared := p.known[v]; shared != nil {
		return shared
	}
	if p.known == nil || len(p.known) >= maxPlaces {
		p.known = map[placeVersion]*address.Place{}
	}
	place := make()
	p.known[v] = &place
	return &place
}
