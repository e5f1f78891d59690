// Package tenanthttp finds out which tenant an application's web request is for,
// and puts it into the request's context.
//
//	request ─▶ host, header or path ─▶ catalog ─▶ next handler, tenant in the context
//	                    │                  │
//	                   400                404   no such tenant
//	                no tenant named       423   suspended, or being moved (Retry-After)
//	                                      503   the catalog cannot be reached (Retry-After)
//
//	http.ListenAndServe(addr, tenanthttp.New(catalog, nil).Wrap(app))
//
// The answers come from the catalog's memory (catalog.Memory), so that a request
// usually costs no query. In an application run a catalog.Listener beside it.
//
// It says which tenant a request is for, not that whoever sends it may act for
// that tenant: that is the application's own authentication. And a host, header
// or path is what the client says: behind a proxy the proxy must set it.
package tenanthttp
