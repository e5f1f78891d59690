package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Database is where the rows of one or many tenants live. It has no address:
// those are never given back.
type Database struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	ServerID  string    `json:"server_id"`
	Server    string    `json:"server"` // the server's name
	DBName    string    `json:"dbname"`
	Kind      string    `json:"kind"`    // KindShared or KindDedicated
	Tenants   int       `json:"tenants"` // how many live there, archived ones too, but no removed ones
	CreatedAt time.Time `json:"created_at"`

	State       DatabaseState `json:"state"`
	StateReason string        `json:"state_reason"` // why it is detached
	StateBy     string        `json:"state_by"`     // who has decided so last; "": nobody
	StateSince  time.Time     `json:"state_since"`

	MaxTenants *int     `json:"max_tenants"` // nil: any number
	Plans      []string `json:"plans"`       // whose tenants are placed there; nil: of any plan

	Protection       Protection `json:"protection"`                  // of a shared database
	ProtectionReason *string    `json:"protection_reason,omitempty"` // why it is not enforced
	ProtectionBy     *string    `json:"protection_by,omitempty"`     // who has decided so last; nil: nobody
	ProtectionSince  time.Time  `json:"protection_since"`

	ReadAddress bool `json:"read_address"` // it has one: see SetRead
	Installed   bool `json:"installed"`    // false: an import has entered it, and Headgate's schema was not installed since: see Hosting.Installed
}

// DatabaseState says whether jobs of a database run.
type DatabaseState string

const (
	Attached DatabaseState = "attached" // they run
	Detached DatabaseState = "detached" // they wait, until Hosting.Reattach
)

// The kinds of database.
const (
	KindShared    = "shared"    // any number of tenants, told apart by org_id
	KindDedicated = "dedicated" // one tenant
)

// DatabaseParams describe a new database.
type DatabaseParams struct {
	// ID is the database's UUID, for one that carries an identity already. ""
	// mints one.
	ID string

	// Name is its name in the catalog: [a-z][a-z0-9-]{0,62}, unique.
	Name string

	// Server is the name of its server.
	Server string

	// DBName is its name on the server, unique there. "" means the one in Job.
	DBName string

	// Kind is KindShared or KindDedicated.
	Kind string

	// Job and Owner are the addresses of its two logins (see jobs.Login). Both
	// must lead to DBName on a host of the server, with different users.
	Job, Owner address.Address

	// SigningKey is the key by which the database knows its workers: see NewSigningKey,
	// and migrations.Identity, which the database gets the same from.
	SigningKey address.Secret
}

// NewSigningKey returns a new random key of a database.
func NewSigningKey() address.Secret {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return address.NewSecret(hex.EncodeToString(key))
}

// AddDatabase adds a database and seals its addresses. It connects to nothing.
// Errors match ErrUnknownServer, ErrExists (the name, the id, or the database
// of that server is there already), or are a *jobs.InputError.
func (c *Catalog) AddDatabase(ctx context.Context, params DatabaseParams) (Database, error) {
	return c.addDatabase(ctx, c.pool, params)
}

// AddDatabaseTx is AddDatabase in the caller's transaction.
func (c *Catalog) AddDatabaseTx(ctx context.Context, tx pgx.Tx, params DatabaseParams) (Database, error) {
	return c.addDatabase(ctx, tx, params)
}

func (c *Catalog) addDatabase(ctx context.Context, db beginner, params DatabaseParams) (Database, error) {
	id, err := params.check()
	if err != nil {
		return Database{}, fmt.Errorf("add database: %w", err)
	}
	params.DBName = cmp.Or(params.DBName, params.Job.Database)
	database, err := within(ctx, db, func(tx pgx.Tx) (Database, error) { return c.insertDatabase(ctx, tx, id, params) })
	if err != nil {
		return Database{}, fmt.Errorf("add database: %w", c.ring.retiredKey(databaseConflict(err, params)))
	}
	return database, nil
}

func (p DatabaseParams) check() (id uuid.UUID, err error) {
	if err := checkName("name", p.Name); err != nil {
		return id, err
	}
	if p.Kind != KindShared && p.Kind != KindDedicated {
		return id, jobs.Inputf("kind", p.Kind, "give shared or dedicated")
	}
	if p.SigningKey == (address.Secret{}) {
		return id, jobs.Missing("signing_key", "what NewSigningKey returns, to the installation too")
	}
	if p.ID == "" {
		return newID(), nil
	}
	id, ok := fit.UUID(p.ID)
	if !ok || id == uuid.Nil {
		return id, jobs.Inputf("id", p.ID, "give a UUID, or none to mint one")
	}
	return id, nil
}

// intendedSQL looks for a run that is making this database, or one of this name.
const intendedSQL = `
SELECT i.name, i.creates FROM headgate.database_intents i WHERE i.name = $1 OR i.server_id = $2 AND i.dbname = $3 LIMIT 1`

// checkIntended refuses what another command has begun. That command's own entry comes after
// the end of its intent, in the same transaction.
func checkIntended(ctx context.Context, tx pgx.Tx, server serverRow, params DatabaseParams) error {
	var name string
	var creates bool
	err := tx.QueryRow(ctx, intendedSQL, params.Name, server.id, params.DBName).Scan(&name, &creates)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return existsf(nil, "database %q of server %q is being made, as %s: %s", params.DBName, server.name, name, Intent{Name: name, Creates: creates}.Next())
}

const databaseInsertSQL = `
INSERT INTO headgate.databases (id, name, server_id, dbname, kind, job_login, job_version, owner_login, owner_version, signing_key, job_ca, owner_ca)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $9, nullif($10, ''), nullif($11, ''))
RETURNING created_at, protection_since, state_since`

func (c *Catalog) insertDatabase(ctx context.Context, tx pgx.Tx, id uuid.UUID, params DatabaseParams) (d Database, err error) {
	server, err := serverForShare(ctx, tx, params.Server)
	if err != nil {
		return d, err
	}
	if err := checkIntended(ctx, tx, server, params); err != nil {
		return d, err
	}
	job, err := server.admit("job", params.Job)
	if err != nil {
		return d, err
	}
	owner, err := server.admit("owner", params.Owner)
	if err != nil {
		return d, err
	}
	if err := checkLogins(params.DBName, job, owner); err != nil {
		return d, err
	}
	const version = 1
	err = tx.QueryRow(ctx, databaseInsertSQL, id, params.Name, server.id, params.DBName, params.Kind,
		c.ring.seal(id, jobColumn, version, address.Encode(job)), version,
		c.ring.seal(id, ownerColumn, version, address.Encode(owner)),
		c.sealSigningKey(id, params.SigningKey),
		job.RootCert, owner.RootCert,
	).Scan(&d.CreatedAt, &d.ProtectionSince, &d.StateSince)
	if err != nil {
		return d, authorityConflict(err, job.RootCert, owner.RootCert)
	}
	return Database{
		ID: id.String(), Name: params.Name, ServerID: server.id.String(), Server: server.name,
		DBName: params.DBName, Kind: params.Kind, CreatedAt: d.CreatedAt, Protection: ProtectionEnforced, ProtectionSince: d.ProtectionSince,
		State: Attached, StateSince: d.StateSince, Installed: true,
	}, nil
}

func checkLogins(dbname string, job, owner address.Address) error {
	const elsewhere = "the address leads to database %s, not to %s"
	switch {
	case job.Database != dbname:
		return jobs.Inputf("job", "", elsewhere, shown(job.Database), shown(dbname))
	case owner.Database != dbname:
		return jobs.Inputf("owner", "", elsewhere, shown(owner.Database), shown(dbname))
	case job.User == owner.User:
		return jobs.Inputf("owner", "", "its user %s is the job login's too; jobs must not run as the owner of the tables, so give each its own", shown(owner.User))
	}
	return nil
}

func databaseConflict(err error, params DatabaseParams) error {
	switch constraint, _ := violation(err); constraint {
	case "databases_name_key":
		return existsf(err, "database %q exists already", params.Name)
	case "databases_pkey":
		return existsf(err, "a database with id %s exists already", params.ID)
	case "databases_server_id_dbname_key":
		return existsf(err, "database %q of server %q is in the catalog already, under another name", params.DBName, params.Server)
	}
	return err
}

// databaseColumns are a Database's, of headgate.databases d, its server s, and a count t.
const databaseColumns = `d.id::text, d.name, s.id::text, s.name, d.dbname, d.kind, coalesce(t.tenants, 0), d.created_at,
       d.state, d.state_reason, d.state_by, d.state_since, d.max_tenants, d.plans,
       d.protection, d.protection_reason, d.protection_by, d.protection_since, d.job_read IS NOT NULL, d.installed`

const databasesSQL = `
SELECT ` + databaseColumns + `
FROM (SELECT * FROM headgate.databases WHERE name > $1 ORDER BY name LIMIT $2) d
JOIN headgate.servers s ON s.id = d.server_id
CROSS JOIN LATERAL (SELECT headgate.tenants_in(d.id) AS tenants) t
ORDER BY d.name`

// Databases returns databases by name, 200 or up to 10,000 a page, and the After of
// the next page ("" if nothing follows). It counts the tenants of those of the page in
// an index.
func (c *Catalog) Databases(ctx context.Context, page jobs.Page) (databases []Database, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list databases: %w", err)
	}
	rows, err := c.pool.Query(ctx, databasesSQL, page.After, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list databases: %w", err)
	}
	databases, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Database])
	if err != nil {
		return nil, "", fmt.Errorf("list databases: %w", err)
	}
	databases, next = jobs.CutPage(databases, limit, func(d Database) string { return d.Name })
	return databases, next, nil
}
