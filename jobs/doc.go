// Package jobs holds the words that those who ask for work and those who do it
// share: what a kind's arguments are ([Args]), what a handler is given ([Job],
// [Tenant]) and what it may answer besides nil ([Cancel], [Snooze]).
//
// The package has no connection, no queue and no clock. The central side
// (package orchestrator) turns Args into a row; the tenant side (package
// worker) turns the row back into a Job and runs it in the tenant's own
// database. Neither imports the other.
//
// The life of a job:
//
//	          Enqueue                 claim                    handler
//	 Args ──────────────▶ waiting ───────────▶ running ──────────────────▶ succeeded
//	   │ RunAt in the       ▲   ▲                │ │ error, attempts left
//	   ▼ future             │   └── failed ──────┘ ├─ Snooze(d): later, no attempt used
//	scheduled ──────────────┘                      ├─ Cancel(err) ───────▶ cancelled
//	                                               └─ last attempt failed ▶ discarded
package jobs
