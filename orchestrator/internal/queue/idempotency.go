package queue

import (
	"context"
	"fmt"
	"maps"
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

// owner is the job that a key belongs to.
type owner struct {
	uid   string
	print fingerprint
}

type scopedKey struct{ scope, key string }

func (it *Draft) scopedKey() scopedKey { return scopedKey{it.scope(), it.key} }

// claimKeys takes the keys of all items that have one, and says of each item
// what became of it: new, same as an earlier one (its UID is then that one's),
// or in conflict with it. The first of several items with one key stands for it.
//
// It waits for other transactions that hold one of the keys, and so for their
// end: a key taken by one that rolls back is free.
func claimKeys(ctx context.Context, tx pgx.Tx, items []Draft) ([]jobs.EnqueueResult, error) {
	results := make([]jobs.EnqueueResult, len(items))
	prints := make([]fingerprint, len(items))
	owners := map[scopedKey]owner{}
	var firsts []int
	for i := range items {
		it := &items[i]
		results[i] = jobs.EnqueueResult{UID: it.Meta.UID, Status: jobs.StatusNew, RerunOf: it.Meta.RerunOf}
		if it.key == "" {
			continue
		}
		var err error
		if prints[i], err = newFingerprint(it); err != nil {
			return nil, atIndex(err, i, len(items))
		}
		id := it.scopedKey()
		if _, seen := owners[id]; !seen {
			owners[id] = owner{it.Meta.UID, prints[i]}
			firsts = append(firsts, i)
		}
	}
	if err := settle(ctx, tx, items, firsts, owners); err != nil {
		return nil, err
	}
	for i := range items {
		if first := owners[items[i].scopedKey()]; items[i].key != "" && first.uid != items[i].Meta.UID {
			results[i] = jobs.EnqueueResult{UID: first.uid, Status: jobs.StatusSame, Differs: prints[i].differs(first.print)}
			if results[i].Differs != "" {
				results[i].Status = jobs.StatusConflict
			}
		}
	}
	return results, nil
}

// settle writes the keys of the items at firsts, and puts the earlier owner in
// the place of each that was taken.
func settle(ctx context.Context, tx pgx.Tx, items []Draft, firsts []int, owners map[scopedKey]owner) error {
	if len(firsts) == 0 {
		return nil
	}
	won, err := insertKeys(ctx, tx, items, firsts, owners)
	if err != nil || len(won) == len(firsts) {
		return err
	}
	var lost []scopedKey
	for _, i := range firsts {
		if !won[items[i].Meta.UID] {
			lost = append(lost, items[i].scopedKey())
		}
	}
	earlier, err := readOwners(ctx, tx, lost)
	if err == nil && len(earlier) != len(lost) {
		err = fmt.Errorf("%d idempotency keys are neither free nor taken; nothing is enqueued", len(lost)-len(earlier))
	}
	maps.Copy(owners, earlier)
	return err
}
