// Package retention keeps the central database tidy: the Janitor makes the history's
// coming months, drops the old ones, and deletes what is past its time.
//
//	sweep.go      the history by month, what jobs log by day, idempotency keys, workers, tombstones for cancelled jobs
//	prune.go      what claiming leaves behind of those who are gone
//	durations.go  how long jobs take, and old answers for occurrences
//	reconcile.go  the schedules that selectors give to tenants
//
// Its weakness: a row that somebody has locked is left for the next pass, so a
// transaction that never ends keeps what it has locked.
package retention
