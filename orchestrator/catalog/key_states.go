package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Keys looks after what the key ring has sealed: which keys are in use, whether all
// values open, sealing anew under the first key, and retiring the others. It reads and
// writes the central database only, and is safe for concurrent use.
type Keys struct {
	pool *pgxpool.Pool
	ring *KeyRing
}

// NewKeys returns the Keys of a central database. ring may be nil for List and Retire.
func NewKeys(pool *pgxpool.Pool, ring *KeyRing) *Keys { return &Keys{pool, ring} }

// The states of a key in the central database.
const (
	KeyActive  = "active"  // it may seal
	KeyRetired = "retired" // the database refuses what it seals
	KeyUnused  = "unused"  // it has sealed nothing yet
)

// KeyUse is a key that is in the ring or has sealed something.
type KeyUse struct {
	ID        string     `json:"id"`
	Ring      int        `json:"ring"`  // its place in the ring, where 1 seals; 0: the ring lacks it
	State     string     `json:"state"` // KeyActive, KeyRetired or KeyUnused
	Seals     int        `json:"seals"` // values that are sealed with it now
	RetiredAt *time.Time `json:"retired_at,omitempty"`
	RetiredBy string     `json:"retired_by,omitempty"`
}

// Known reports that the ring has the key.
func (k KeyUse) Known() bool { return k.Ring > 0 }

const keysSQL = `
SELECT coalesce(k.id, v.id), coalesce(k.state, 'active'), coalesce(v.seals, 0), k.retired_at, coalesce(k.actor, '')
FROM headgate.keys k
FULL JOIN (SELECT headgate.sealed_by(sealed) AS id, count(*) AS seals FROM headgate.sealed_values GROUP BY 1) v ON v.id = k.id
WHERE coalesce(k.id, v.id) IS NOT NULL`

// List returns the keys of the ring in its order, and behind them by id those that have
// sealed something and that the ring lacks. It opens nothing, and reads all sealed
// values once.
func (k *Keys) List(ctx context.Context) ([]KeyUse, error) {
	rows, _ := k.pool.Query(ctx, keysSQL) // its error is CollectRows' too
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u KeyUse, err error) {
		err = row.Scan(&u.ID, &u.State, &u.Seals, &u.RetiredAt, &u.RetiredBy)
		return u, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the keys: %w", err)
	}
	for i, id := range k.ids() {
		n := slices.IndexFunc(keys, func(u KeyUse) bool { return u.ID == id })
		if n < 0 {
			n, keys = len(keys), append(keys, KeyUse{ID: id, State: KeyUnused})
		}
		keys[n].Ring = i + 1
	}
	slices.SortFunc(keys, func(a, b KeyUse) int {
		return cmp.Or(cmp.Compare(uint(a.Ring-1), uint(b.Ring-1)), cmp.Compare(a.ID, b.ID)) // 0 becomes the last
	})
	return keys, nil
}

func (k *Keys) ids() []string {
	if k.ring == nil {
		return nil
	}
	return k.ring.IDs()
}

// RetireParams say which key is to seal nothing any more.
type RetireParams struct {
	ID     string
	Actor  string // who decides, for the record
	DryRun bool   // look only
}

const (
	keySeenSQL = `INSERT INTO headgate.keys (id) VALUES ($1) ON CONFLICT DO NOTHING`

	keyForUpdateSQL = `SELECT state FROM headgate.keys WHERE id = $1 FOR UPDATE`

	sealsSQL = `SELECT count(*) FROM headgate.sealed_values WHERE headgate.sealed_by(sealed) = $1`

	retireSQL = `UPDATE headgate.keys SET state = 'retired', retired_at = now(), actor = $2 WHERE id = $1`
)

// Retire makes the central database refuse whatever a key seals from now on, whichever
// process tries. It waits up to some seconds for writers that hold the key. Errors match
// ErrKeyInUse while anything is sealed with the key or the ring has the key first. A
// retired key stays retired: doing it again changes nothing.
func (k *Keys) Retire(ctx context.Context, params RetireParams) error {
	if !isKeyID(params.ID) {
		return fmt.Errorf("retire: %w %s", ErrUnknownKey, quote(params.ID))
	}
	if ids := k.ids(); len(ids) > 0 && ids[0] == params.ID {
		return fmt.Errorf("retire: %w: %s is the ring's first key, which seals; put another one in front with `headgate key promote ID`", ErrKeyInUse, params.ID)
	}
	err := central.Write(ctx, k.pool, func(tx pgx.Tx) error { return retire(ctx, tx, params) })
	if err != nil {
		return fmt.Errorf("retire: %w", err)
	}
	return nil
}

func retire(ctx context.Context, tx pgx.Tx, params RetireParams) error {
	if _, err := tx.Exec(ctx, keySeenSQL, params.ID); err != nil {
		return fmt.Errorf("noting key %s: %w", params.ID, err)
	}
	// Who writes what the key seals holds its row, so none is between this and the count.
	var state string
	if err := tx.QueryRow(ctx, keyForUpdateSQL, params.ID).Scan(&state); err != nil {
		return fmt.Errorf("locking key %s: %w", params.ID, err)
	}
	if state == KeyRetired {
		return nil
	}
	var seals int
	if err := tx.QueryRow(ctx, sealsSQL, params.ID).Scan(&seals); err != nil {
		return fmt.Errorf("counting what key %s seals: %w", params.ID, err)
	}
	if seals > 0 {
		return fmt.Errorf("%w: %s sealed with %s; run `headgate key rekey`, which seals all with the ring's first key, then retire %[3]s again", ErrKeyInUse, jobs.CountVerb(seals, "value", "is", "are"), params.ID)
	}
	if params.DryRun {
		return nil
	}
	if _, err := tx.Exec(ctx, retireSQL, params.ID, params.Actor); err != nil {
		return fmt.Errorf("writing that key %s is retired: %w", params.ID, err)
	}
	return nil
}

// codeRetired is the SQLSTATE of headgate.check_seals.
const codeRetired = "HG010"

// retiredKey puts the database's refusal of a retired key into words.
func (k *KeyRing) retiredKey(err error) error {
	if k == nil || !central.HasCode(err, codeRetired) {
		return err
	}
	return fmt.Errorf("%w, and this process has it first (%s): nothing was changed; put another key in front of the ring, then start this process again", ErrRetiredKey, k.now().ids[0])
}
