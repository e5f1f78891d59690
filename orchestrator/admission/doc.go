// Package admission keeps what people decide of whose work may start: rows by which
// workers claim, so that a change counts for the next claim of every worker.
//
//	SetLimit, ClearLimit   of a tenant, plan, kind or queue: how many at once, what rate, what weight   limit_set.go
//	Pause, Resume          a tenant, kind, queue or server: who, why, until when                         pauses.go
//	PauseSelected, …       the same for all tenants that a selector selects now                          selected.go, limit_selected.go
//	AddEnqueueGrant        who may enqueue what through headgate.enqueue                                 enqueue_grants.go
//	Limits, TenantLimits   what is set, and what holds for a tenant                                      limit_list.go
//
// Its weakness: a limit of a kind, queue or plan is set by a name that nothing may have
// yet, so a slip in the name is no error. Names says which names are in use.
package admission
