package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Authority is a certificate authority that addresses may name as sslrootcert.
type Authority struct {
	Name         string    `json:"name"`
	Fingerprints []string  `json:"fingerprints"` // SHA-256 of each certificate, in hexadecimal
	NotAfter     time.Time `json:"not_after"`    // of the first that expires
	Databases    int       `json:"databases"`    // that name it
	CreatedAt    time.Time `json:"created_at"`
	Actor        string    `json:"actor,omitempty"` // who added it
}

// Authorities keeps the certificate authorities of the catalog. It is safe for
// concurrent use.
type Authorities struct{ pool *pgxpool.Pool }

// NewAuthorities returns the authorities of a central database.
func NewAuthorities(pool *pgxpool.Pool) *Authorities { return &Authorities{pool} }

// AuthorityParams describe a certificate authority.
type AuthorityParams struct {
	Name    string // as sslrootcert names it: up to 63 letters, digits, . _ and -, without a - at either end
	PEM     []byte // its certificates, 1 to 64 of them
	Actor   string // who adds it, for the record
	Replace bool   // take the place of the one of that name, for all who name it
}

const (
	maxAuthorityPEM = 256 << 10
	maxAuthorities  = 64 // certificates in one
)

var authorityName = regexp.MustCompile(`^[A-Za-z0-9._]([A-Za-z0-9._-]{0,61}[A-Za-z0-9._])?$`)

const (
	authorityInsertSQL = `
INSERT INTO headgate.certificate_authorities (name, pem, fingerprints, not_after, actor)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO NOTHING
RETURNING created_at`
	authorityReplaceSQL = `
UPDATE headgate.certificate_authorities SET pem = $2, fingerprints = $3, not_after = $4, created_at = now(), actor = $5
WHERE name = $1
RETURNING created_at`
)

// Add keeps the certificates of a file: authorities only, none of them expired, and no
// key. With Replace it counts in every process within 10 seconds, for connections that
// are made then. Errors match ErrExists, with Replace ErrUnknownAuthority, or are a *jobs.InputError that repeats nothing
// of the file.
func (a *Authorities) Add(ctx context.Context, params AuthorityParams) (Authority, error) {
	return a.add(ctx, a.pool, params)
}

// AddTx is Add in the caller's transaction.
func (a *Authorities) AddTx(ctx context.Context, tx pgx.Tx, params AuthorityParams) (Authority, error) {
	return a.add(ctx, tx, params)
}

func (a *Authorities) add(ctx context.Context, db beginner, params AuthorityParams) (Authority, error) {
	added := Authority{Name: params.Name, Actor: params.Actor}
	if !authorityName.MatchString(params.Name) {
		return added, jobs.Inputf("name", params.Name, "give up to 63 letters, digits, . _ and -, without a - at either end")
	}
	certificates, err := readAuthorities(params.PEM, time.Now())
	if err != nil {
		return added, jobs.AsInputError("file", err)
	}
	var text bytes.Buffer
	for _, c := range certificates {
		sum := sha256.Sum256(c.Raw)
		added.Fingerprints = append(added.Fingerprints, hex.EncodeToString(sum[:]))
		if added.NotAfter.IsZero() || c.NotAfter.Before(added.NotAfter) {
			added.NotAfter = c.NotAfter
		}
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	sql := authorityInsertSQL
	if params.Replace {
		sql = authorityReplaceSQL
	}
	_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		if err := tx.QueryRow(ctx, sql, params.Name, text.String(), added.Fingerprints, added.NotAfter, params.Actor).Scan(&added.CreatedAt); err != nil {
			return none, err
		}
		_, err = tx.Exec(ctx, resetTrustingSQL, params.Name)
		return none, err
	})
	if errors.Is(err, pgx.ErrNoRows) && params.Replace {
		return added, fmt.Errorf("%w %s, whose place the file is to take; `headgate ca list` shows them", ErrUnknownAuthority, shown(params.Name))
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return added, existsf(nil, "certificate authority %q exists already; with --replace this one takes its place", params.Name)
	}
	if err != nil {
		return added, fmt.Errorf("add certificate authority %s: %w", shown(params.Name), err)
	}
	return added, nil
}

// readAuthorities reads certificates and nothing else. Its errors repeat nothing of the
// text but the subject of a certificate.
func readAuthorities(text []byte, now time.Time) (certificates []*x509.Certificate, err error) {
	switch {
	case len(text) > maxAuthorityPEM:
		return nil, fmt.Errorf("it is %d bytes long, at most %d are allowed", len(text), maxAuthorityPEM)
	case bytes.Contains(bytes.ToUpper(text), []byte("PRIVATE")):
		return nil, errors.New("it holds a private key, which no one but the authority should have: give the certificates alone")
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("it holds something else than certificates: give the certificates alone")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: give the authority's certificate as it was issued, in PEM form", len(certificates)+1)
		}
		if err := checkAuthority(c, now); err != nil {
			return nil, fmt.Errorf("certificate %d (%.80q) %w", len(certificates)+1, c.Subject.String(), err)
		}
		if certificates = append(certificates, c); len(certificates) > maxAuthorities {
			return nil, fmt.Errorf("it holds more than %d certificates", maxAuthorities)
		}
	}
	if len(certificates) == 0 {
		return nil, errors.New("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return certificates, nil
}

func checkAuthority(c *x509.Certificate, now time.Time) error {
	const day = time.DateOnly
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("is no authority's: give the certificate of the authority that signed the server's")
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s: give the one that the authority uses now", c.NotAfter.UTC().Format(day))
	case now.Before(c.NotBefore):
		return fmt.Errorf("is valid from %s on only: see whether this machine's clock is right", c.NotBefore.UTC().Format(day))
	}
	return nil
}

const authoritiesSQL = `
SELECT a.name, a.fingerprints, a.not_after, count(d.id), a.created_at, a.actor
FROM headgate.certificate_authorities a
LEFT JOIN headgate.databases d ON a.name = ANY (headgate.authorities_of(d))
WHERE a.name > $1
GROUP BY a.name
ORDER BY a.name
LIMIT $2`

// List returns the authorities by name, a page at a time, as Databases does.
func (a *Authorities) List(ctx context.Context, page jobs.Page) (all []Authority, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list certificate authorities: %w", err)
	}
	rows, _ := a.pool.Query(ctx, authoritiesSQL, page.After, limit+1) // its error is CollectRows' too
	all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Authority])
	if err != nil {
		return nil, "", fmt.Errorf("list certificate authorities: %w", err)
	}
	all, next = jobs.CutPage(all, limit, func(a Authority) string { return a.Name })
	return all, next, nil
}

const authorityDeleteSQL = `DELETE FROM headgate.certificate_authorities WHERE name = $1`

const authorityUsersSQL = `
SELECT name FROM headgate.databases d WHERE $1::text = ANY (headgate.authorities_of(d)) ORDER BY name LIMIT 1000`

// Remove forgets an authority. Errors match ErrAuthorityInUse while an address names it,
// and ErrUnknownAuthority.
func (a *Authorities) Remove(ctx context.Context, name string) error {
	return a.remove(ctx, a.pool, name)
}

// RemoveTx is Remove in the caller's transaction.
func (a *Authorities) RemoveTx(ctx context.Context, tx pgx.Tx, name string) error {
	return a.remove(ctx, tx, name)
}

func (a *Authorities) remove(ctx context.Context, db database, name string) error {
	deleted, err := within(ctx, db, func(tx pgx.Tx) (int64, error) {
		tag, err := tx.Exec(ctx, authorityDeleteSQL, name)
		return tag.RowsAffected(), err
	})
	switch {
	case central.HasCode(err, "23503"):
		return inUse(ctx, db, name)
	case err != nil:
		return fmt.Errorf("remove certificate authority %s: %w", shown(name), err)
	case deleted == 0:
		return fmt.Errorf("%w %s; `headgate ca list` shows them", ErrUnknownAuthority, shown(name))
	}
	return nil
}

func inUse(ctx context.Context, db querier, name string) error {
	rows, _ := db.Query(ctx, authorityUsersSQL, name) // its error is CollectRows' too
	users, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking who names certificate authority %s: %w", shown(name), err)
	}
	return fmt.Errorf("%w: %s is named by the addresses of %s; give them others with `headgate database login`, or put new certificates in its place with `headgate ca add %s FILE --replace`",
		ErrAuthorityInUse, shown(name), someOf(users), name)
}

const authorityPEMSQL = `SELECT pem FROM headgate.certificate_authorities WHERE name = $1`

// Trust puts the certificates of the authority that an address names into it, past every
// cache. The error matches ErrUnknownAuthority.
func (a *Authorities) Trust(ctx context.Context, addr address.Address) (address.Address, error) {
	if addr.RootCert == "" {
		return addr, nil
	}
	var err error
	if addr.Roots, err = readRoots(ctx, a.pool, addr.RootCert); err == nil && addr.Roots == "" {
		err = unknownAuthority(addr.RootCert)
	}
	return addr, err
}

// readRoots returns "" for an authority that does not exist.
func readRoots(ctx context.Context, pool *pgxpool.Pool, name string) (text string, err error) {
	err = pool.QueryRow(ctx, authorityPEMSQL, name).Scan(&text)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("reading certificate authority %s: %w", shown(name), err)
	}
	return text, nil
}

func unknownAuthority(name string) error {
	return fmt.Errorf("sslrootcert: %w %s: `headgate ca add %s FILE` adds it", ErrUnknownAuthority, shown(name), name)
}

// authorityConflict says of a write that an address names an authority that is not there.
func authorityConflict(err error, job, owner string) error {
	var said *pgconn.PgError
	switch {
	case !errors.As(err, &said) || said.Code != "23503" || !strings.HasSuffix(said.ConstraintName, "_ca_fkey"):
		return err
	case strings.Contains(said.ConstraintName, "owner"):
		return unknownAuthority(owner)
	}
	return unknownAuthority(job)
}

// roots remembers the certificates of authorities for a while, because each connection
// to a server with one needs them.
type roots struct {
	mu    sync.Mutex
	known map[string]rootsAt // guarded by mu
}

type rootsAt struct {
	text string
	at   time.Time
}

const (
	rootsFor     = 10 * time.Second // a change counts after that everywhere
	rootsStale   = 5 * time.Minute  // while the central database is away
	mostRoots    = 256
	rootsTimeout = 5 * time.Second
)

// of returns the certificates of an authority, "" for one that does not exist.
func (r *roots) of(ctx context.Context, pool *pgxpool.Pool, name string, now time.Time) (string, error) {
	known, fresh := r.get(name, now)
	if fresh {
		return known.text, nil
	}
	ctx, cancel := context.WithTimeout(ctx, rootsTimeout)
	defer cancel()
	text, err := readRoots(ctx, pool, name)
	if err != nil {
		if !known.at.IsZero() && now.Sub(known.at) < rootsStale {
			return known.text, nil
		}
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= mostRoots {
		r.known = map[string]rootsAt{}
	}
	r.known[name] = rootsAt{text, now}
	return text, nil
}

func (r *roots) get(name string, now time.Time) (known rootsAt, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known = r.known[name]
	return known, !known.at.IsZero() && now.Sub(known.at) < rootsFor
}
