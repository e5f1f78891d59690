package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/jackc/pgx/v5"
)

// insertKeysSQL takes keys. A key that another transaction is just taking makes
// it wait for that one's end; sorting keeps two lists from waiting for each
// other. A key that is taken stays as it is, locked until this transaction ends,
// so that nobody deletes it before it is read; one past its time changes hands, unless
// its job has not ended.
const insertKeysSQL = `
INSERT INTO headgate.idempotency_keys AS k (scope, key, kind, args_hash, fields, job_uid)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::jsonb[], $6::uuid[])
    AS n (scope, key, kind, args_hash, fields, job_uid)
ORDER BY scope, key
ON CONFLICT (scope, key) DO UPDATE
SET kind = excluded.kind, args_hash = excluded.args_hash, fields = excluded.fields, job_uid = excluded.job_uid, created_at = now()
WHERE k.created_at < now() - $7::interval AND NOT ` + unfinishedOfKey + `
RETURNING job_uid::text`

// insertKeys returns the UIDs of the items whose keys were free.
func insertKeys(ctx context.Context, tx pgx.Tx, items []Draft, firsts []int, owners map[scopedKey]owner) (map[string]bool, error) {
	n := len(firsts)
	scopes, keys, kinds, uids := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	hashes, fields := make([][]byte, n), make([]string, n)
	for row, i := range firsts {
		it := &items[i]
		print := owners[it.scopedKey()].print
		named, err := json.Marshal(print.fields)
		if err != nil {
			return nil, fmt.Errorf("encoding idempotency key %q: %w", it.key, err)
		}
		scopes[row], keys[row], kinds[row], uids[row] = it.scope(), it.key, it.Kind, it.Meta.UID
		hashes[row], fields[row] = print.args, string(named)
	}
	rows, err := tx.Query(ctx, insertKeysSQL, scopes, keys, kinds, hashes, fields, uids, jobs.IdempotencyRetention)
	if err != nil {
		return nil, fmt.Errorf("taking %d idempotency keys: %w", n, err)
	}
	won := make(map[string]bool, n)
	var uid string
	if _, err := pgx.ForEachRow(rows, []any{&uid}, func() error { won[uid] = true; return nil }); err != nil {
		return nil, fmt.Errorf("taking %d idempotency keys: %w", n, err)
	}
	return won, nil
}

const selectKeys = `
SELECT k.scope::text, k.key, k.kind, k.args_hash, k.fields, k.job_uid::text
FROM unnest($1::uuid[], $2::text[]) AS n (scope, key)
JOIN headgate.idempotency_keys k ON k.scope = n.scope AND k.key = n.key`

// readOwners returns the jobs that have these keys; a free key is left out.
func readOwners(ctx context.Context, tx pgx.Tx, ids []scopedKey) (map[scopedKey]owner, error) {
	scopes, keys := make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		scopes[i], keys[i] = id.scope, id.key
	}
	rows, err := tx.Query(ctx, selectKeys, scopes, keys)
	if err != nil {
		return nil, fmt.Errorf("reading %d idempotency keys: %w", len(ids), err)
	}
	owners := make(map[scopedKey]owner, len(ids))
	var id scopedKey
	var first owner
	_, err = pgx.ForEachRow(rows, []any{&id.scope, &id.key, &first.print.kind, &first.print.args, &first.print.fields, &first.uid}, func() error {
		owners[id] = first
		first = owner{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading %d idempotency keys: %w", len(ids), err)
	}
	return owners, nil
}

// refuseLate refuses the items that name a past time, unless their keys were
// taken before: those repeat a request that was in time.
func refuseLate(ctx context.Context, tx pgx.Tx, items []Draft) error {
	var ids []scopedKey
	for i := range items {
		if items[i].late != nil {
			ids = append(ids, items[i].scopedKey())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	owners, err := readOwners(ctx, tx, ids)
	if err != nil {
		return err
	}
	for i := range items {
		if _, taken := owners[items[i].scopedKey()]; items[i].late != nil && !taken {
			return atIndex(items[i].late, i, len(items))
		}
	}
	return nil
}
