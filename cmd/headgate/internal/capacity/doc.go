// Package capacity measures how many tenants a shared database can hold: it makes a copy of
// the database on the same server, and runs the jobs of more and more tenants there.
//
//	copy.go      the copy on the server: made with an administrator's address, and dropped
//	leftover.go  copies that killed runs have left
//	stage.go     a private central database with a worker, whose only tenant database is the copy
//	mix.go       the jobs, and how often each
//	ramp.go      the steps, and the judgement of each
//	step.go      one step: jobs are offered at a rate, and what became of them is read
//	watch.go     the connections, looked at all the time
//
//	Run ─▶ leftovers dropped ─▶ copy made ─▶ private central database and worker ─▶ step ─▶ step ─▶ … ─▶ worker stopped ─▶ copy dropped
//
// The jobs take the way of all jobs: a claim, a signed context, the ledger, an outcome. They
// come at random moments, and do not wait for each other, so that what is too slow queues up.
// The time of a job counts from the moment when it was to be offered.
//
// The application's catalog learns nothing of the copy. The copy keeps the two logins of the
// database, and nobody else may enter. A run that is killed leaves it behind; the next run
// drops it, because its name is of a form that nobody else uses and no session of that name
// is on the server.
//
// Its weakness: the copy has the server's caches, disks and processors in common with what
// else runs there, and each disturbs the other. A figure is as good as the mix.
package capacity
