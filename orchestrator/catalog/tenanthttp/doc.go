// Package tenanthttp finds out which tenant an application's web request is for,
// and puts it into the request's context.
//
//	request ─▶ host, header, ─▶ catalog ─▶ Check ─▶ next handler, tenant in the context
//	           path or e-mail      │         │
//	               │              404       403   the token is another tenant's
//	              400             423             suspended, or being moved (Retry-After)
//	        no tenant named       503             the catalog cannot be reached (Retry-After)
//	              403
//	      two tenants named
//
//	http.ListenAndServe(addr, tenanthttp.New(catalog, nil).Wrap(app))
//
// Unless the application asks for more, the host alone counts. FirstOf combines: each part
// of a request that names a tenant has to name the same.
//
// The answers come from the catalog's memory (catalog.Memory), so that a request
// usually costs no query. In an application run a catalog.Listener beside it.
//
// It says which tenant a request is for, not that whoever sends it may act for
// that tenant: that is the application's own authentication, whose answer Opts.Check
// compares. And a host, header or path is what the client says: behind a proxy the proxy
// must set it.
package tenanthttp
