package catalog

// What the tests outside the package look at.
const (
	MaxOrgID         = maxOrgID
	TenantsByNameSQL = tenantsByNameSQL
	ResolveTenantSQL = resolveTenantSQL
)

var Reserved = reserved
