package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const setHostsSQL = `
UPDATE headgate.servers SET hosts = $2
WHERE id = $1
RETURNING ` + serverColumns

// AddHost lets addresses on a server name one more host: another name of the server, or its
// standby's. For transport socket it is a directory.
func (h *Hosting) AddHost(ctx context.Context, server, host string) (Server, error) {
	changed, err := h.addHost(ctx, h.c.pool, server, host)
	h.c.memory.changed(err, changed.ID)
	return changed, err
}

// AddHostTx is AddHost in the caller's transaction.
func (h *Hosting) AddHostTx(ctx context.Context, tx pgx.Tx, server, host string) (Server, error) {
	return h.addHost(ctx, tx, server, host)
}

func (h *Hosting) addHost(ctx context.Context, db beginner, server, host string) (Server, error) {
	return h.changeServer(ctx, db, "add host", server, func(tx pgx.Tx, s Server) (Server, error) {
		host, err := s.newHost(host)
		if err != nil {
			return s, err
		}
		if slices.Contains(s.Hosts, host) {
			return s, existsf(nil, "host %q of server %q exists already", host, s.Name)
		}
		return writeHosts(ctx, tx, s, append(s.Hosts, host))
	})
}

func (s Server) newHost(host string) (string, error) {
	canonical, err := s.Transport.CheckHost(host)
	if err != nil {
		return "", jobs.Inputf("host", plainHost(host), "%v", err)
	}
	return canonical, nil
}

func writeHosts(ctx context.Context, tx pgx.Tx, s Server, hosts []string) (Server, error) {
	if len(hosts) > maxHosts {
		return s, jobs.Inputf("host", "", "server %q would have %d hosts, and may have 1 to %d: `headgate server host remove %s HOST`", s.Name, len(hosts), maxHosts, s.Name)
	}
	return writeServer(ctx, tx, "", setHostsSQL, s.ID, hosts)
}

// RemoveHost lets no address on a server name a host any more. It opens the addresses of the
// server's databases to see that none does, so that it needs a key ring that opens them all.
func (h *Hosting) RemoveHost(ctx context.Context, server, host string) (Server, error) {
	changed, err := h.removeHost(ctx, h.c.pool, server, host)
	h.c.memory.changed(err, changed.ID)
	return changed, err
}

// RemoveHostTx is RemoveHost in the caller's transaction.
func (h *Hosting) RemoveHostTx(ctx context.Context, tx pgx.Tx, server, host string) (Server, error) {
	return h.removeHost(ctx, tx, server, host)
}

func (h *Hosting) removeHost(ctx context.Context, db beginner, server, host string) (Server, error) {
	return h.changeHosts(ctx, db, "remove host", server, func(tx pgx.Tx, s Server) (Server, error) {
		host, at, err := s.knownHost(host)
		if err != nil {
			return s, err
		}
		named, err := h.addressesAt(ctx, tx, s, host)
		switch {
		case err != nil:
			return s, err
		case len(named) > 0:
			of := "of databases " + someOf(databasesIn(named))
			return s, &sentenceError{is: ErrReferred, sentence: fmt.Sprintf("host %q of server %q is not removed: %s it; `headgate server host replace %s %s HOST` leads databases to another host",
				host, s.Name, jobs.CountVerb(len(named), "address", of+" names", of+" name"), s.Name, host)}
		case len(s.Hosts) == 1:
			return s, &sentenceError{is: ErrReferred, sentence: fmt.Sprintf("host %q is the only one of server %q: `headgate server host replace %s %s HOST` puts another in its place, `headgate server remove %s` takes the server out",
				host, s.Name, s.Name, host, s.Name)}
		}
		return writeHosts(ctx, tx, s, slices.Delete(s.Hosts, at, at+1))
	})
}

// knownHost returns a host of the server in its canonical form, and its place.
func (s Server) knownHost(host string) (canonical string, at int, err error) {
	if canonical, err = s.newHost(host); err != nil {
		return "", 0, err
	}
	if at = slices.Index(s.Hosts, canonical); at < 0 {
		return "", 0, jobs.Inputf("host", canonical, "server %q has no such host; it has %s", s.Name, someOf(s.Hosts))
	}
	return canonical, at, nil
}

// HostReplacement says which host of a server gives way to which.
type HostReplacement struct {
	Server, Old, New string
	DryRun           bool

	// ExpectTenants is how many tenants must live on the server; another number is refused
	// with an *ExpectationError, and nothing is written. nil means any number.
	ExpectTenants *int
}

// HostReplaced is what became of a replacement, or would.
type HostReplaced struct {
	Concerned
	Addresses int `json:"addresses"` // that named the old host, and are sealed anew
}

// ReplaceHost puts one host of a server in the place of another: every address that named
// the old one names the new one from then on, and the server has the old one no more. It is
// one transaction, and needs a key ring that opens the addresses of the server's databases.
// It connects to nothing.
func (h *Hosting) ReplaceHost(ctx context.Context, r HostReplacement) (HostReplaced, error) {
	defer h.c.memory.dropAll()
	return h.replaceHost(ctx, h.c.pool, r)
}

// ReplaceHostTx is ReplaceHost in the caller's transaction.
func (h *Hosting) ReplaceHostTx(ctx context.Context, tx pgx.Tx, r HostReplacement) (HostReplaced, error) {
	return h.replaceHost(ctx, tx, r)
}

func (h *Hosting) replaceHost(ctx context.Context, db beginner, r HostReplacement) (done HostReplaced, err error) {
	_, err = h.changeHosts(ctx, db, "replace host", r.Server, func(tx pgx.Tx, s Server) (Server, error) {
		old, at, err := s.knownHost(r.Old)
		if err != nil {
			return s, err
		}
		to, err := s.newHost(r.New)
		if err != nil {
			return s, err
		}
		if to == old {
			return s, jobs.Inputf("host", to, "it would take its own place: give another")
		}
		named, err := h.addressesAt(ctx, tx, s, old)
		if err != nil {
			return s, err
		}
		done = HostReplaced{Concerned: Concerned{Databases: len(databasesIn(named)), DryRun: r.DryRun}, Addresses: len(named)}
		if err := tx.QueryRow(ctx, tenantsOfSQL, idsOf(named)).Scan(&done.Tenants); err != nil {
			return s, err
		}
		switch want := r.ExpectTenants; {
		case r.DryRun:
			return s, nil
		case want != nil && *want != done.Tenants:
			return s, &ExpectationError{Expected: *want, Tenants: done.Tenants}
		}
		hosts := slices.Clone(s.Hosts)
		if hosts[at] = to; slices.Index(s.Hosts, to) >= 0 {
			hosts = slices.Delete(hosts, at, at+1)
		}
		changed, err := writeHosts(ctx, tx, s, hosts)
		if err != nil {
			return s, err
		}
		if err := h.lead(ctx, tx, named, to); err != nil {
			return s, err
		}
		id, err := uuid.Parse(s.ID)
		if err != nil {
			return s, err
		}
		return changed, resetBreakers(ctx, tx, &id, idsOf(named)...)
	})
	return done, h.c.ring.retiredKey(err)
}

const tenantsOfSQL = `SELECT coalesce(sum(headgate.tenants_in(d.id)), 0) FROM (SELECT DISTINCT unnest($1::uuid[])) AS d (id)`

// openedAddress is one address of a database, with its column.
type openedAddress struct {
	database uuid.UUID
	name     string
	column   string
	version  int
	address  address.Address
}

// lockDatabasesSQL locks the databases of a server before the server, as whoever stores an
// address does.
const lockDatabasesSQL = `
SELECT d.id FROM headgate.databases d JOIN headgate.servers s ON s.id = d.server_id
WHERE s.name = $1 ORDER BY d.id FOR UPDATE OF d`

// changeHosts is changeServer for a change that looks into addresses.
func (h *Hosting) changeHosts(ctx context.Context, db beginner, what, server string, change func(tx pgx.Tx, s Server) (Server, error)) (Server, error) {
	return within(ctx, db, func(tx pgx.Tx) (Server, error) {
		if _, err := tx.Exec(ctx, lockDatabasesSQL, server); err != nil {
			return Server{}, fmt.Errorf("%s: %w", what, err)
		}
		return h.changeServer(ctx, tx, what, server, change)
	})
}

// addressesOfServerSQL has a row for each address of a server's databases, and keeps them as
// they are.
const addressesOfServerSQL = `
SELECT d.id, d.name, v.col, v.version, v.sealed
FROM (SELECT * FROM headgate.databases WHERE server_id = $1 ORDER BY id FOR UPDATE) d
CROSS JOIN LATERAL (VALUES ('job_login', d.job_version, d.job_login), ('owner_login', d.owner_version, d.owner_login),
                           ('job_direct', d.job_direct_version, d.job_direct), ('owner_direct', d.owner_direct_version, d.owner_direct),
                           ('job_read', d.job_read_version, d.job_read)) v (col, version, sealed)
WHERE v.sealed IS NOT NULL
ORDER BY d.id, v.col`

// addressesAt are the addresses of a server's databases that name a host. One that cannot be
// opened may name it.
func (h *Hosting) addressesAt(ctx context.Context, tx pgx.Tx, s Server, host string) (named []openedAddress, err error) {
	var a openedAddress
	var sealed []byte
	rows, _ := tx.Query(ctx, addressesOfServerSQL, s.ID) // its error is ForEachRow's too
	_, err = pgx.ForEachRow(rows, []any{&a.database, &a.name, &a.column, &a.version, &sealed}, func() error {
		if h.c.ring == nil {
			return &sentenceError{is: ErrReferred, sentence: fmt.Sprintf("the addresses of server %q may name host %q, and without the key ring nobody can look: give HEADGATE_KEY or HEADGATE_KEY_FILE", s.Name, host)}
		}
		var err error
		if a.address, err = h.c.unseal(a.database, a.column, a.version, sealed); err != nil {
			return fmt.Errorf("an address of database %q, which may name host %q: %w", a.name, host, err)
		}
		if a.address.Host == host {
			named = append(named, a)
		}
		return nil
	})
	return named, err
}

func databasesIn(named []openedAddress) (names []string) {
	for _, a := range named {
		names = append(names, a.name)
	}
	return slices.Compact(names) // they come in the order of their databases
}

func idsOf(named []openedAddress) []uuid.UUID {
	ids := []uuid.UUID{}
	for _, a := range named {
		ids = append(ids, a.database)
	}
	return ids
}

// setAddressSQL stores one address in its column ($2) under its next version.
const setAddressSQL = `
UPDATE headgate.databases
SET job_login            = CASE WHEN $2 = 'job_login' THEN $3 ELSE job_login END,
    job_version          = CASE WHEN $2 = 'job_login' THEN $4 ELSE job_version END,
    owner_login          = CASE WHEN $2 = 'owner_login' THEN $3 ELSE owner_login END,
    owner_version        = CASE WHEN $2 = 'owner_login' THEN $4 ELSE owner_version END,
    job_direct           = CASE WHEN $2 = 'job_direct' THEN $3 ELSE job_direct END,
    job_direct_version   = CASE WHEN $2 = 'job_direct' THEN $4 ELSE job_direct_version END,
    owner_direct         = CASE WHEN $2 = 'owner_direct' THEN $3 ELSE owner_direct END,
    owner_direct_version = CASE WHEN $2 = 'owner_direct' THEN $4 ELSE owner_direct_version END,
    job_read             = CASE WHEN $2 = 'job_read' THEN $3 ELSE job_read END,
    job_read_version     = CASE WHEN $2 = 'job_read' THEN $4 ELSE job_read_version END
WHERE id = $1`

// lead seals the addresses anew with another host.
func (h *Hosting) lead(ctx context.Context, tx pgx.Tx, named []openedAddress, host string) error {
	batch := &pgx.Batch{}
	for _, a := range named {
		a.address.Host = host
		batch.Queue(setAddressSQL, a.database, a.column, h.c.ring.seal(a.database, a.column, a.version+1, address.Encode(a.address)), a.version+1)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("storing the addresses: %w", err)
	}
	return nil
}
