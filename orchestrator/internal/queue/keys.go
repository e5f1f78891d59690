package queue

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// selectTaken says which keys are taken, by their places in the lists.
const selectTaken = `
SELECT n.i FROM unnest($1::int[], $2::uuid[], $3::text[]) AS n (i, scope, key)
WHERE EXISTS (SELECT FROM headgate.idempotency_keys k WHERE k.scope = n.scope AND k.key = n.key)`

// refuseLate refuses the items that name a past time, unless their keys were
// taken before: those repeat a request that was in time.
func refuseLate(ctx context.Context, tx pgx.Tx, items []Draft) error {
	var late []int
	var scopes, keys []string
	for i := range items {
		if items[i].late != nil {
			late, scopes, keys = append(late, i), append(scopes, items[i].scope()), append(keys, items[i].key)
		}
	}
	if len(late) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, selectTaken, late, scopes, keys) // its error is CollectRows' too
	found, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return fmt.Errorf("reading %s: %w", jobs.Count(len(late), "idempotency key"), err)
	}
	taken := make(map[int]bool, len(found))
	for _, i := range found {
		taken[i] = true
	}
	for _, i := range late {
		if !taken[i] {
			return atIndex(items[i].late, i, len(items))
		}
	}
	return nil
}
