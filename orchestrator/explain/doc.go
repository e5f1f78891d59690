// Package explain says why work does not run, from the rows by which workers claim. It
// writes nothing.
//
//	Explain        a job: what it waits for, in the order in which that must pass       explain.go, facts.go
//	ExplainTenant  what waits and runs of a tenant, and what stops it                   explain_tenant.go
//	Health         whether what is asked for is also done: what doctor asks             health.go
//	Workers        the worker processes, and how their claims go                        workers.go
//	ServerLoads    what workers have to do with each server                             server_loads.go
//
// What bears on the work of one owner, kind and queue is read by one batch of queries
// (standing.go), and told as sentences with codes (facts_standing.go, codes.go).
//
// Its weakness: it tells the claim's rules a second time. What workers hold is known as of
// their last claims, so an answer may be a moment behind.
package explain
