package catalog

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// What the tests outside the package look at.
const (
	MaxOrgID         = maxOrgID
	TenantsByNameSQL = tenantsByNameSQL
	ResolveTenantSQL = resolveTenantSQL
	TenantsSQL       = tenantsSQL
	DatabasesSQL     = databasesSQL
	DomainsSQL       = domainsSQL
	EmailsSQL        = emailsSQL
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

// Fresh says whether the answer to a slug would be given without a question.
func (c *Catalog) Fresh(slug string) bool {
	_, fresh, _ := c.memory.find(question{by: bySlug, name: slug})
	return fresh
}

// Opens reports whether a ring opens a value in a place.
func Opens(ring *KeyRing, owner uuid.UUID, column string, version int, sealed []byte) bool {
	_, err := ring.open(owner, column, version, sealed)
	return err == nil
}

// Ring is the catalog's key ring.
func (c *Catalog) Ring() *KeyRing { return c.ring }
