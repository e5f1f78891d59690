// Package telemetry names what Headgate measures and traces, and records both by
// OpenTelemetry's API. A program that sets no provider pays nothing, because the API's own
// provider does nothing. Exporters are in cmd only.
//
// No metric has a tenant, a job or a text of an error, because each of these is without a
// bound. The history has them.
//
// # Traces
//
// An enqueue is a span of its caller's trace, and its W3C traceparent goes into the job's
// row. Each attempt is a trace of its own, whose root is linked to that span and to the
// attempt before. A job is not nested in its producer's trace, because the job may run a
// week later and many times.
//
//	the application's trace      POST /invoices
//	                             └─ send invoice.render
//	                                   ▲ link
//	the attempt's trace          process invoice.render
//	                             ├─ claim
//	                             ├─ resolve
//	                             ├─ connect
//	                             ├─ transaction
//	                             │  ├─ begin
//	                             │  ├─ query INSERT
//	                             │  └─ commit
//	                             └─ end
//	                                   ▲ link
//	the follow-up's trace        process invoice.mail
//
// The producer decides about sampling: an attempt is traced if the producer's span was. A
// row without a traceparent leaves the decision to the worker's own sampler.
//
// A span has no text of an error and no argument. An error is its class or its SQLSTATE.
package telemetry

// Scope is the instrumentation scope of all that Headgate records.
const Scope = "github.com/headgate/headgate"

// The metrics. Prometheus writes dots as underscores, the unit and _total behind them:
// headgate_attempts_total, headgate_attempt_duration_seconds.
const (
	Attempts        = "headgate.attempts"         // attempts that have ended, by kind, state, class and server
	AttemptDuration = "headgate.attempt.duration" // seconds from an attempt's begin to its end, by kind and state
	PickUpDelay     = "headgate.pickup.delay"     // seconds from the time when a job was due to the begin of its first attempt, by queue
	Retries         = "headgate.retries"          // attempts that have failed and are tried again, by kind and class
	LedgerHits      = "headgate.ledger.hits"      // attempts whose work the ledger knew as done, by kind
	EndDelay        = "headgate.end.delay"        // seconds from an attempt's end until the central database has recorded it
	ClaimDuration   = "headgate.claim.duration"   // seconds of a claim, by queue and outcome
	ClaimJobs       = "headgate.claim.jobs"       // jobs that claims have taken, by queue
	ClaimLimited    = "headgate.claim.limited"    // claims that left due jobs, by queue and by what kept these back

	WorkerHeartbeatAge = "headgate.worker.heartbeat.age" // seconds since the central database took a heartbeat
	LoopAge            = "headgate.loop.age"             // seconds since a loop of the process turned, by loop
	RunningJobs        = "headgate.jobs.running"         // attempts of the process that run now, by queue
	Slots              = "headgate.jobs.slots"           // attempts that the process may run at once, by queue
	EndsWaiting        = "headgate.ends.waiting"         // attempts that are over, and whose ends are not in the central database yet
	StuckHandlers      = "headgate.handlers.stuck"       // handlers that go on after their attempts were given up

	ServerConnections = "headgate.server.connections"        // open connections of the process, idle ones included, by server
	ServerAllowed     = "headgate.server.connections.limit"  // connections that the process may have, by server
	ServerOpened      = "headgate.server.connections.opened" // connections that the process has made, by server
	ServerWaiting     = "headgate.server.waiting"            // jobs of the process that wait for a connection, by server
	ServerBreaker     = "headgate.server.breaker.open"       // 1 while the process's breaker of a server is not closed, by server
	CentralConns      = "headgate.central.connections"       // the worker's connections to the central database, by state
	CatalogLookups    = "headgate.catalog.lookups"           // questions of the catalog, by outcome: hit is answered from memory

	TenantAttempts = "headgate.tenant.attempts" // attempts of the busiest tenants, by tenant; only if asked for
	TenantFailures = "headgate.tenant.failures" // of these, and of the tenants that fail most, those that failed

	ScheduleAnswers  = "headgate.schedule.answers"  // occurrences that the process's scheduler has answered, by answer
	ScheduleLateness = "headgate.schedule.lateness" // seconds from an occurrence's time to its firing

	// What follows is of all processes together, as one of them has found in the central
	// database.
	QueueWaiting      = "headgate.queue.waiting"           // jobs that are due and wait, by queue; counted up to 10,000
	QueueOldest       = "headgate.queue.oldest.age"        // seconds that the first of them has been due, by queue
	Workers           = "headgate.workers"                 // worker processes, by state: live, draining, silent
	ServerBudget      = "headgate.server.budget"           // connections that the server's budget allows, by server
	ServerUsed        = "headgate.server.budget.used"      // of these, the ones that processes have published, by server
	Breakers          = "headgate.breakers.open"           // breakers that are open, by server and class
	Quarantined       = "headgate.quarantined"             // jobs in quarantine, counted up to 10,000
	UnservedKinds     = "headgate.kinds.unserved"          // kinds of waiting jobs that no live worker has
	SchedulesOverdue  = "headgate.schedules.overdue"       // schedules with an expected occurrence that is unanswered for a minute; counted up to 10,000
	SchedulesLateness = "headgate.schedules.overdue.age"   // seconds since the first of these was due
	SchedulesBroken   = "headgate.schedules.broken"        // schedules that an error has stopped; counted up to 10,000
	ScheduleSuccess   = "headgate.schedule.success.age"    // seconds since a job of a watched schedule succeeded, of the tenant that waits longest, by schedule
	SchedulesWatched  = "headgate.schedule.watched"        // schedules that a watched name has, whoever's, by schedule; 0 is a name that nobody's has
	FiguresMissing    = "headgate.central.figures.missing" // 1 for a group of these that could not be found, by figure
	FiguresAge        = "headgate.central.figures.age"     // seconds since these were found
)

// The attributes.
const (
	Kind    = "headgate.kind"
	Queue   = "headgate.queue"
	State   = "headgate.state"
	Class   = "headgate.class"
	Server  = "headgate.server" // its name in the catalog
	Outcome = "headgate.outcome"
	Loop    = "headgate.loop"
	Reason  = "headgate.reason" // limit, server, rate
	Answer  = "headgate.answer"
	Figure  = "headgate.figure"
)

// The spans. Each name is followed by the job's kind where the comment says so.
const (
	SpanSend    = "send"    // producer: an enqueue, from its check to its commit; and the kind
	SpanFire    = "fire"    // producer: one occurrence of a schedule, a trace's root; and the kind
	SpanProcess = "process" // consumer: an attempt, from its claim until its end is recorded; and the kind

	SpanClaim       = "claim"       // the claim that brought the job, and others with it
	SpanResolve     = "resolve"     // asking the catalog where the job runs
	SpanConnect     = "connect"     // waiting for a connection to the tenant's database, and opening one
	SpanTransaction = "transaction" // the tenant's transaction, from BEGIN to COMMIT's answer
	SpanBegin       = "begin"       // what opens a job: BEGIN, and the ledger's question
	SpanCommit      = "commit"      // what marks a job done: the ledger's row, and COMMIT
	SpanSession     = "session"     // a handler that has a connection, and no transaction of ours
	SpanHandler     = "handler"     // a handler that has no connection
	SpanEnd         = "end"         // from the attempt's end until the central database has recorded it
)

// The attributes of spans, beside those of metrics. The first ones are OpenTelemetry's
// conventions for messaging.
const (
	MessagingSystem      = "messaging.system" // always "headgate"
	MessagingOperation   = "messaging.operation.name"
	MessagingType        = "messaging.operation.type"
	MessagingDestination = "messaging.destination.name"    // the queue
	MessagingMessage     = "messaging.message.id"          // the job's UID
	MessagingCount       = "messaging.batch.message_count" // jobs of one enqueue
	DBSystem             = "db.system.name"                // always "postgresql"
	SQLState             = "pgx.sql_state"                 // as otelpgx has it
	ErrorType            = "error.type"                    // a class, or a Go type
	Tenant               = "headgate.tenant"               // slug
	Database             = "headgate.database"             // its name in the catalog
	AttemptNumber        = "headgate.attempt"              // from 1
	Schedule             = "headgate.schedule"             // its name
	Nominal              = "headgate.schedule.nominal"     // RFC 3339, UTC
	Recovered            = "headgate.recovered"            // the ledger said that the work was done before
	Link                 = "headgate.link"                 // why a span is linked: one of the following
	LinkProducer         = "producer"                      // who enqueued the job
	LinkAttempt          = "attempt"                       // the attempt before
)
