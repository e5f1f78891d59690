package catalog

import "time"

// What the tests outside the package look at.
const (
	MaxOrgID         = maxOrgID
	TenantsByNameSQL = tenantsByNameSQL
	ResolveTenantSQL = resolveTenantSQL
)

var Reserved = reserved

// At makes the catalog's memory of places believe that it is now some time later.
func (c *Catalog) At(now func() time.Time) { c.recent.now = now }

// Remembered is how many places the catalog remembers.
func (c *Catalog) Remembered() int {
	c.recent.mu.Lock()
	defer c.recent.mu.Unlock()
	return len(c.recent.answers)
}
