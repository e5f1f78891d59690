package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// sealedValue is one sealed column of one row.
type sealedValue struct {
	tab, col string
	owner    uuid.UUID
	name     string
	version  int
	sealed   []byte
}

// sealedPageSQL walks the primary keys of the tables, so that a page costs its own rows.
const sealedPageSQL = `SELECT tab, col, owner, name, version, sealed FROM headgate.sealed_after($1, $2) ORDER BY owner, tab, col`

// pageOfRows bounds what is in memory at a time: the values of so many rows of each table
// with sealed columns.
const pageOfRows = 100

// page returns the values of the next rows after one, and which row was the last. No
// value means that none follows.
func (k *Keys) page(ctx context.Context, after uuid.UUID) (values []sealedValue, last uuid.UUID, err error) {
	rows, _ := k.pool.Query(ctx, sealedPageSQL, after, pageOfRows) // its error is CollectRows' too
	values, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (v sealedValue, err error) {
		err = row.Scan(&v.tab, &v.col, &v.owner, &v.name, &v.version, &v.sealed)
		return v, err
	})
	if err != nil {
		return nil, after, fmt.Errorf("reading the sealed values: %w", err)
	}
	owners := 0 // a table may have further rows between those of another
	for i, v := range values {
		if v.owner != last {
			if owners++; owners > pageOfRows {
				return values[:i], last, nil
			}
			last = v.owner
		}
	}
	return values, last, nil
}

// each hands all values to visit, page by page, until visit says that it has seen
// enough.
func (k *Keys) each(ctx context.Context, visit func([]sealedValue) (enough bool, err error)) error {
	for after := uuid.Nil; ; {
		values, last, err := k.page(ctx, after)
		if err != nil || len(values) == 0 {
			return err
		}
		if enough, err := visit(values); err != nil || enough {
			return err
		}
		after = last
	}
}

// BadSeal is a sealed value that cannot be opened or sealed anew.
type BadSeal struct {
	Table  string `json:"table"`
	Name   string `json:"name"` // of the row
	Column string `json:"column"`
	Error  string `json:"error"`
}

func badSeal(v sealedValue, err error) BadSeal {
	said := strings.TrimPrefix(err.Error(), address.ErrUndecryptable.Error()+": ")
	return BadSeal{Table: v.tab, Name: v.name, Column: v.col, Error: said}
}

// Verified is what became of opening every value.
type Verified struct {
	Values int       `json:"values"`
	Opened int       `json:"opened"`
	Failed int       `json:"failed"`
	Bad    []BadSeal `json:"bad"` // the first of those that failed
}

// Verify opens every sealed value with the ring, and names at most so many that do not
// open. What it holds in memory does not grow with their number.
func (k *Keys) Verify(ctx context.Context, names int) (Verified, error) {
	result := Verified{Bad: []BadSeal{}}
	err := k.each(ctx, func(values []sealedValue) (bool, error) {
		for _, v := range values {
			result.Values++
			_, err := k.ring.open(v.owner, v.col, v.version, v.sealed)
			if err == nil {
				result.Opened++
				continue
			}
			result.Failed++
			if len(result.Bad) < names {
				result.Bad = append(result.Bad, badSeal(v, err))
			}
		}
		return false, nil
	})
	return result, err
}

// Check looks whether the ring fits the central database: it opens one sealed value at
// least, or there is none. Else the error matches ErrWrongKeys. It ends at the first
// value that opens.
func (k *Keys) Check(ctx context.Context) error {
	seen, opens := 0, false
	err := k.each(ctx, func(values []sealedValue) (bool, error) {
		for _, v := range values {
			_, err := k.ring.open(v.owner, v.col, v.version, v.sealed)
			opens = opens || err == nil
		}
		seen += len(values)
		return opens, nil
	})
	if err != nil || opens || seen == 0 {
		return err
	}
	return fmt.Errorf("%w: none of %s of this central database, with its keys %s; give the ring that sealed them (`headgate key list` names its keys), "+
		"or store the addresses again with `headgate database login --key-lost`", ErrWrongKeys, jobs.Count(seen, "sealed value"), strings.Join(k.ids(), ", "))
}

const sealedSampleSQL = `
SELECT tab, col, owner, name, version, sealed
FROM headgate.sealed_values
WHERE headgate.sealed_by(sealed) = $1
LIMIT $2`

// Sample opens at most so many of the values that say they are sealed with one key.
// Another key of the same id opens none of them.
func (k *Keys) Sample(ctx context.Context, id string, most int) (Verified, error) {
	rows, _ := k.pool.Query(ctx, sealedSampleSQL, id, most) // its error is ForEachRow's too
	result, v := Verified{Bad: []BadSeal{}}, sealedValue{}
	_, err := pgx.ForEachRow(rows, []any{&v.tab, &v.col, &v.owner, &v.name, &v.version, &v.sealed}, func() error {
		result.Values++
		if _, err := k.ring.open(v.owner, v.col, v.version, v.sealed); err != nil {
			result.Failed++
			result.Bad = append(result.Bad, badSeal(v, err))
			return nil
		}
		result.Opened++
		return nil
	})
	if err != nil {
		return result, fmt.Errorf("opening values of key %s: %w", id, err)
	}
	return result, nil
}
