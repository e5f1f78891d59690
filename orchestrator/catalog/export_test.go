package catalog

import (
	"context"
	"time"
)

// What the tests outside the package look at.
const (
	MaxOrgID         = maxOrgID
	TenantsByNameSQL = tenantsByNameSQL
	ResolveTenantSQL = resolveTenantSQL
)

var Reserved = reserved

// At makes the catalog's memory believe that it is now some time later.
func (c *Catalog) At(now func() time.Time) { c.memory.now = now }

// Remembered is how many answers the catalog remembers.
func (c *Catalog) Remembered() int {
	c.memory.cache.CleanUp()
	return c.memory.cache.EstimatedSize()
}

// ListenOnce is one connection of a listener's loop.
func ListenOnce(ctx context.Context, l *Listener) error {
	_, err := l.runOnce(ctx)
	return err
}
