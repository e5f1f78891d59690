package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Region is a part of the world, where servers stand.
type Region struct {
	Name    string `json:"name"`
	Note    string `json:"note"`
	Servers int    `json:"servers"`
}

const regionsSQL = `
SELECT r.name, r.note, (SELECT count(*) FROM headgate.servers s WHERE s.region = r.name)
FROM headgate.regions r
WHERE r.name > $1
ORDER BY r.name
LIMIT $2`

// Regions returns regions by name, 200 or up to 10,000 a page, and the After of the next
// page ("" if nothing follows).
func (h *Hosting) Regions(ctx context.Context, page jobs.Page) (regions []Region, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list regions: %w", err)
	}
	rows, _ := h.c.pool.Query(ctx, regionsSQL, page.After, limit+1) // its error is CollectRows' too
	if regions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Region]); err != nil {
		return nil, "", fmt.Errorf("list regions: %w", err)
	}
	regions, next = jobs.CutPage(regions, limit, func(r Region) string { return r.Name })
	return regions, next, nil
}

// maxNote is how many characters the note of a region may have.
const maxNote = 200

const regionInsertSQL = `INSERT INTO headgate.regions (name, note) VALUES ($1, $2) ON CONFLICT DO NOTHING`

// AddRegion adds a region, which servers can be set to. Its name is [a-z][a-z0-9-]{0,62},
// its note up to 200 characters.
func (h *Hosting) AddRegion(ctx context.Context, name, note string) error {
	return h.addRegion(ctx, h.c.pool, name, note)
}

// AddRegionTx is AddRegion in the caller's transaction.
func (h *Hosting) AddRegionTx(ctx context.Context, tx pgx.Tx, name, note string) error {
	return h.addRegion(ctx, tx, name, note)
}

func (h *Hosting) addRegion(ctx context.Context, db beginner, name, note string) error {
	err := errors.Join(checkName("name", name), jobs.CheckText("note", note, maxNote))
	if err == nil {
		_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
			tag, err := tx.Exec(ctx, regionInsertSQL, name, note)
			if err == nil && tag.RowsAffected() == 0 {
				err = existsf(nil, "region %q exists already", name)
			}
			return none, err
		})
	}
	if err != nil {
		return fmt.Errorf("add region: %w", err)
	}
	return nil
}

const regionForUpdateSQL = `SELECT name FROM headgate.regions WHERE name = $1 FOR UPDATE`

const inRegionSQL = `SELECT 'server', name FROM headgate.servers WHERE region = $1 ORDER BY name`

const regionDeleteSQL = `DELETE FROM headgate.regions WHERE name = $1`

// RemoveRegion takes a region out. It is refused while a server is in it.
func (h *Hosting) RemoveRegion(ctx context.Context, name string) error {
	return h.removeRegion(ctx, h.c.pool, name)
}

// RemoveRegionTx is RemoveRegion in the caller's transaction.
func (h *Hosting) RemoveRegionTx(ctx context.Context, tx pgx.Tx, name string) error {
	return h.removeRegion(ctx, tx, name)
}

func (h *Hosting) removeRegion(ctx context.Context, db beginner, name string) error {
	_, err := within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		if err := tx.QueryRow(ctx, regionForUpdateSQL, name).Scan(&name); errors.Is(err, pgx.ErrNoRows) {
			return none, fmt.Errorf("%w %s", ErrUnknownRegion, shown(name))
		} else if err != nil {
			return none, err
		}
		if err := refuseReferred(ctx, tx, "region", name, inRegionSQL, name); err != nil {
			return none, err
		}
		_, err = tx.Exec(ctx, regionDeleteSQL, name)
		return none, err
	})
	if err != nil {
		return fmt.Errorf("remove region: %w", err)
	}
	return nil
}
