// Package telemetry names what Headgate measures, and records it by OpenTelemetry's API.
// Who sets no provider pays for nothing: the API's own does nothing. Exporters are in
// cmd only.
//
// No metric has a tenant, a job or a text of an error, because each of these is without a
// bound. The history has them.
package telemetry

// Scope is the instrumentation scope of all that Headgate records.
const Scope = "github.com/headgate/headgate"

// The metrics. Prometheus writes dots as underscores, the unit and _total behind them:
// headgate_attempts_total, headgate_attempt_duration_seconds.
const (
	Attempts        = "headgate.attempts"         // attempts that have ended, by kind, state, class and server
	AttemptDuration = "headgate.attempt.duration" // seconds from an attempt's begin to its end, by kind and state
	PickUpDelay     = "headgate.pickup.delay"     // seconds from the time when a job was due to the begin of its first attempt, by queue
	ClaimDuration   = "headgate.claim.duration"   // seconds of a claim, by queue and outcome
	ClaimJobs       = "headgate.claim.jobs"       // jobs that claims have taken, by queue
	Retries         = "headgate.retries"          // attempts that have failed and are tried again, by kind and class

	WorkerHeartbeatAge = "headgate.worker.heartbeat.age" // seconds since the central database took a heartbeat
	LoopAge            = "headgate.loop.age"             // seconds since a loop of the process turned, by loop
	ServerConnections  = "headgate.server.connections"   // open connections of the process, by server
	ServerWaiting      = "headgate.server.waiting"       // jobs of the process that wait for a connection, by server
	ServerBreaker      = "headgate.server.breaker.open"  // 1 while the process's breaker of a server is not closed
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
)
