package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/internal/central"
)

// RekeyParams say how values are sealed anew.
type RekeyParams struct {
	// DryRun only opens what would be sealed anew.
	DryRun bool

	// Names is how many values the result names at most that cannot be sealed anew.
	Names int

	// Patience is how long rows are tried again that somebody holds locked, after the
	// last value that could be sealed anew. 0 means 30 seconds.
	Patience time.Duration

	// Progress hears how far it has come, after each group of values. It is called by
	// the calling goroutine.
	Progress func(Rekeyed)
}

// Rekeyed is what became of sealing anew.
type Rekeyed struct {
	Key    string    `json:"key"`    // the ring's first key
	Values int       `json:"values"` // that other keys had sealed when it began
	Sealed int       `json:"sealed"` // that are sealed anew; in a dry run, that would be
	Failed int       `json:"failed"` // that cannot be opened or stored
	Locked int       `json:"locked"` // that somebody held to the end
	Bad    []BadSeal `json:"bad"`    // the first of those that failed or were locked
	DryRun bool      `json:"dry_run"`
}

const othersSQL = `SELECT count(*) FROM headgate.sealed_values WHERE headgate.sealed_by(sealed) IS DISTINCT FROM $1`

// Rekey seals every value anew that another key than the ring's first has sealed. It
// goes in small transactions, beside running jobs and whoever else writes: a value that
// has changed meanwhile is left as it now is, and a row that somebody holds is passed
// and tried again. What is done stays done, so that another Rekey goes on where one was
// interrupted. A value that cannot be opened stops nothing.
//
// Workers notice nothing: address and version stay the same, and the ring opens what
// they remember, as long as it has the old key.
func (k *Keys) Rekey(ctx context.Context, params RekeyParams) (Rekeyed, error) {
	if params.Patience == 0 {
		params.Patience = 30 * time.Second
	}
	run := &rekeying{Keys: k, params: params, result: Rekeyed{Key: k.ring.again().ids[0], Bad: []BadSeal{}, DryRun: params.DryRun}}
	if err := k.pool.QueryRow(ctx, othersSQL, run.result.Key).Scan(&run.result.Values); err != nil {
		return run.result, fmt.Errorf("rekey: counting what is to do: %w", err)
	}
	if err := run.passes(ctx); err != nil {
		return run.result, fmt.Errorf("rekey: %w", k.ring.retiredKey(err))
	}
	return run.result, nil
}

// rekeying is one Rekey.
type rekeying struct {
	*Keys
	params RekeyParams
	result Rekeyed
}

// passPause is between two passes: a pass reads all values.
const passPause = 500 * time.Millisecond

// passes goes over all values until a pass leaves none that was locked or has changed.
func (r *rekeying) passes(ctx context.Context) error {
	last := time.Now() // when a value was sealed anew
	for {
		before := r.result.Sealed
		r.result.Failed, r.result.Locked, r.result.Bad = 0, 0, []BadSeal{}
		if err := r.each(ctx, func(values []sealedValue) (bool, error) { return false, r.reseal(ctx, values) }); err != nil {
			return err
		}
		if r.result.Sealed > before {
			last = time.Now()
		}
		if r.result.Locked == 0 || r.params.DryRun || time.Since(last) > r.params.Patience {
			return nil
		}
		select {
		case <-time.After(passPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reseal does one page of values.
func (r *rekeying) reseal(ctx context.Context, values []sealedValue) error {
	var fit []sealedValue
	var anew [][]byte
	for _, v := range values {
		if id, _, err := sealedWith(v.sealed); err == nil && id == r.result.Key {
			continue
		}
		plain, err := r.ring.open(v.owner, v.col, v.version, v.sealed)
		if err != nil {
			r.bad(v, err)
			continue
		}
		fit, anew = append(fit, v), append(anew, r.ring.seal(v.owner, v.col, v.version, plain))
	}
	switch {
	case r.params.DryRun:
		r.result.Sealed += len(fit)
	case len(fit) > 0:
		if err := r.store(ctx, fit, anew); err != nil {
			return err
		}
	}
	if r.params.Progress != nil {
		r.params.Progress(r.result)
	}
	return nil
}

func (r *rekeying) bad(v sealedValue, err error) {
	r.result.Failed++
	r.name(v, err)
}

func (r *rekeying) name(v sealedValue, err error) {
	if len(r.result.Bad) < r.params.Names {
		r.result.Bad = append(r.result.Bad, badSeal(v, err))
	}
}

// errHeld is of a row that was passed.
var errHeld = errors.New("another transaction holds the row, or has just changed it")

// resealSQL changes what is still as it was read and what nobody holds.
const resealSQL = `SELECT headgate.reseal($1, $2, $3, $4, $5)`

// store writes what can be written, and leaves out single values that the database
// refuses.
func (r *rekeying) store(ctx context.Context, values []sealedValue, anew [][]byte) error {
	done, refused := map[int]bool{}, map[int]error{}
	err := central.Write(ctx, r.pool, func(tx pgx.Tx) error {
		return central.Apart(ctx, tx, 0, len(values), func(tx pgx.Tx, from, to int) error {
			stored, err := reseal(ctx, tx, values[from:to], anew[from:to])
			for _, n := range stored {
				done[from+n-1] = true
			}
			return err
		}, func(_ pgx.Tx, i int, cause error) error {
			if central.HasCode(cause, codeRetired) { // so will all others be
				return cause
			}
			refused[i] = cause
			return nil
		})
	})
	if err != nil {
		return err
	}
	for i, v := range values {
		switch {
		case refused[i] != nil:
			r.bad(v, refused[i])
		case done[i]:
			r.result.Sealed++
		default:
			r.result.Locked++
			r.name(v, errHeld)
		}
	}
	return nil
}

func reseal(ctx context.Context, tx pgx.Tx, values []sealedValue, anew [][]byte) (done []int, err error) {
	var tabs, cols []string
	var owners []uuid.UUID
	var was [][]byte
	for _, v := range values {
		tabs, cols, owners, was = append(tabs, v.tab), append(cols, v.col), append(owners, v.owner), append(was, v.sealed)
	}
	err = tx.QueryRow(ctx, resealSQL, tabs, cols, owners, was, anew).Scan(&done)
	return done, err
}
