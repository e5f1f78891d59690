package queue

import (
	"context"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

const maxKey = 200

func checkKey(key string) error {
	if n := utf8.RuneCountInString(key); n > maxKey {
		return jobs.Inputf("idempotency key", "", "%d characters are too many: give 1 to %d", n, maxKey)
	}
	for i, r := range key {
		if _, size := utf8.DecodeRuneInString(key[i:]); !unicode.IsPrint(r) || r == utf8.RuneError && size == 1 {
			return jobs.Inputf("idempotency key", key, "only printable characters are allowed")
		}
	}
	return nil
}

// scope is whom a key belongs to: the tenant or database of the job, by UUID.
func (it *Draft) scope() string {
	if it.Meta.Database != "" {
		return it.Meta.Database
	}
	return it.Meta.Tenant
}

// takeKeysSQL takes keys in their order, so that two lists do not wait for each other. Of
// two items with one key the first of the list has it: the second call sees what the first
// has written.
const takeKeysSQL = `
SELECT n.i, k.job_uid::text, k.differs
FROM (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::uuid[], $7::int[]) AS u (i, scope, key, kind, args, uid, brand)
    ORDER BY scope, key, i OFFSET 0
) n CROSS JOIN LATERAL headgate.take_key(n.scope, n.key, n.kind, n.args, n.uid, n.brand) k`

// claimKeys takes the keys of all items that have one, and says of each item
// what became of it: new, same as an earlier one (its UID is then that one's),
// or in conflict with it. The first of several items with one key stands for it.
//
// It waits for other transactions that hold one of the keys, and so for their
// end: a key taken by one that rolls back is free.
func claimKeys(ctx context.Context, tx pgx.Tx, items []Draft) ([]jobs.EnqueueResult, error) {
	results := make([]jobs.EnqueueResult, len(items))
	var at []int
	var scopes, keys, kinds, args, uids []string
	var brands []*int
	for i := range items {
		it := &items[i]
		results[i] = jobs.EnqueueResult{UID: it.Meta.UID, Status: jobs.StatusNew, RerunOf: it.Meta.RerunOf}
		if it.key == "" {
			continue
		}
		at, scopes, keys = append(at, i), append(scopes, it.scope()), append(keys, it.key)
		kinds, args, uids, brands = append(kinds, it.Kind), append(args, string(it.Args)), append(uids, it.Meta.UID), append(brands, it.Meta.Brand)
	}
	if len(at) == 0 {
		return results, nil
	}
	rows, err := tx.Query(ctx, takeKeysSQL, at, scopes, keys, kinds, args, uids, brands)
	if err != nil {
		return nil, fmt.Errorf("taking %s: %w", jobs.Count(len(at), "idempotency key"), err)
	}
	var i int
	var uid, differs string
	_, err = pgx.ForEachRow(rows, []any{&i, &uid, &differs}, func() error {
		switch {
		case uid == items[i].Meta.UID:
		case differs == "":
			results[i] = jobs.EnqueueResult{UID: uid, Status: jobs.StatusSame}
		default:
			results[i] = jobs.EnqueueResult{UID: uid, Status: jobs.StatusConflict, Differs: differs}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("taking %s: %w", jobs.Count(len(at), "idempotency key"), err)
	}
	return results, nil
}
