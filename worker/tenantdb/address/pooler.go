package address

import "fmt"

// Pooler is what stands between this process and a server. It belongs to the
// server's row in the catalog.
type Pooler string

const (
	// NoPooler: connections are the server's own. "" means the same.
	NoPooler Pooler = "none"

	// TransactionPooler is PgBouncer with pool_mode transaction, or its like: each
	// transaction may meet another session of the server, and what one leaves in a
	// session meets somebody else.
	TransactionPooler Pooler = "transaction"

	// SessionPooler is PgBouncer with pool_mode session: a connection has one
	// session for as long as it lasts.
	SessionPooler Pooler = "session"
)

// ParsePooler returns the pooler of that name.
func ParsePooler(name string) (Pooler, error) {
	switch p := Pooler(name); p {
	case NoPooler, TransactionPooler, SessionPooler:
		return p, nil
	}
	return "", fmt.Errorf("pooler %s is unknown: use none, transaction or session", shown(name))
}

// Session returns the place to connect to for work that needs a session of its
// own: p itself, or past a pooler in transaction mode the login's direct
// address; false if it has none.
func (p Place) Session() (Place, bool) {
	if p.Pooler != TransactionPooler {
		return p, true
	}
	if p.OpenDirect == nil {
		return p, false
	}
	p.Direct, p.Pooler, p.Open, p.Version = true, NoPooler, p.OpenDirect, p.DirectVersion
	return p, true
}
