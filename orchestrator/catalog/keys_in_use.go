package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// KeyUse is a key that sealed addresses, how many, and whether the ring has it.
type KeyUse struct {
	ID    string `json:"id"`
	Seals int    `json:"seals"`
	Known bool   `json:"known"`
}

// A sealed value begins with a version byte, the length of the key's id, and the
// id (seal.go).
const keysInUseSQL = `
SELECT convert_from(substring(sealed FROM 3 FOR get_byte(sealed, 1)), 'UTF8') AS id, count(*)
FROM (SELECT unnest(ARRAY[job_login, owner_login, job_direct, owner_direct]) FROM headgate.databases
      UNION ALL
      SELECT unnest(ARRAY[job_password, owner_password, app_password]) FROM headgate.database_intents) s (sealed)
WHERE sealed IS NOT NULL AND length(sealed) > 2
GROUP BY 1
ORDER BY 1`

// KeysInUse says by which keys the addresses are sealed, without opening any. It
// reads all databases' rows once.
func (c *Catalog) KeysInUse(ctx context.Context) ([]KeyUse, error) {
	rows, err := c.pool.Query(ctx, keysInUseSQL)
	if err != nil {
		return nil, fmt.Errorf("list the keys in use: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k KeyUse, err error) {
		err = row.Scan(&k.ID, &k.Seals)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the keys in use: %w", err)
	}
	for i, k := range keys {
		if c.ring != nil {
			_, keys[i].Known = c.ring.key(k.ID)
		}
	}
	return keys, nil
}
