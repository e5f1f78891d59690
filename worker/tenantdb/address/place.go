package address

import "context"

// Place is where one login of one database is to be found: what the catalog
// answers to the worker's question, and what package tenantdb turns into a
// connection. It holds no secret; Open fetches and unseals the address at the
// moment a connection is made.
type Place struct {
	ServerID   string // UUID of the server
	Server     string // the catalog's name of the server, for people
	Budget     int    // the server's connection budget for one process; 0: it has none
	DatabaseID string // UUID; must equal the identity row in the database itself
	Database   string // the catalog's name of the database, for people
	Login      string // "job" or "owner"

	// Dedicated says that the database belongs to one tenant alone.
	Dedicated bool

	// Observed says that jobs run in the shared database also while it does not keep its
	// tenants apart.
	Observed bool

	// OrgID is the tenant's organisation, OrgKey its key in tables whose organisation
	// column is text or uuid, and Generation that of its placement. All are zero for a job
	// of scope database.
	OrgID      int64
	OrgKey     string
	Generation int64

	// Upgrading lets a connection to an older Headgate schema through, for the
	// owner's login to bring it up to date.
	Upgrading bool

	// Transport says what the server row allows an address to use.
	Transport Transport

	// Pooler says what stands before the server. Direct is set on a place that
	// Session has led past it.
	Pooler Pooler
	Direct bool

	// Version rises whenever the login's address changes.
	Version int

	// Reload returns the place as the catalog has it now, past every cache. nil
	// where there is nothing newer to be had.
	Reload func(ctx context.Context) (Place, error)

	// Open returns the address. It may fail because the sealed value cannot be
	// opened (an error that matches ErrUndecryptable). Safe for concurrent use.
	Open func(ctx context.Context) (Address, error)

	// SigningKey returns the key by which the database knows its workers. It fails as Open
	// does.
	SigningKey func(ctx context.Context) (Secret, error)

	// OpenDirect is Open for the login's address past the pooler, of
	// DirectVersion; nil where the catalog has none. See Session.
	OpenDirect    func(ctx context.Context) (Address, error)
	DirectVersion int

	// OpenRead is Open for the login's address at a replica, of ReadVersion; nil where the
	// catalog has none. Reading is set on a place that Replica has led there.
	OpenRead    func(ctx context.Context) (Address, error)
	ReadVersion int
	Reading     bool
}

// Replica returns the place of the login's read address; false if it has none. The server's
// row says of it, too, what stands before the server.
func (p Place) Replica() (Place, bool) {
	if p.OpenRead == nil {
		return p, false
	}
	p.Reading, p.Open, p.Version = true, p.OpenRead, p.ReadVersion
	p.OpenDirect, p.OpenRead = nil, nil
	return p, true
}
