package explain

// Code names a fact for programs. A code does not change its meaning; new ones may
// come.
type Code string

// The codes of what stops work, in the order in which Explain tells it.
const (
	CodeNotDue      Code = "not_due"      // its time has not come
	CodeRetryDue    Code = "retry_due"    // the next attempt's time has not come
	CodePutOff      Code = "put_off"      // its handler asked for a later time
	CodeDue         Code = "due"          // its time has come; nothing stops it by that
	CodeHeld        Code = "held"         // of a tenant: jobs whose last attempts used none, by their class
	CodeLastAttempt Code = "last_attempt" // how the last attempt ended, and since when they end so

	CodePausedTenant Code = "paused_tenant"
	CodePausedKind   Code = "paused_kind"
	CodePausedQueue  Code = "paused_queue"
	CodePausedServer Code = "paused_server"

	CodeTenantStatus Code = "tenant_status" // suspended, archived or provisioning
	CodeTenantMoving Code = "tenant_moving"
	CodeFeatureOff   Code = "feature_off"      // the kind needs a feature that the tenant does not have
	CodeKindRefused  Code = "kind_not_allowed" // neither the tenant nor its plan has the kind
	CodeServerState  Code = "server_state"     // draining or down

	CodeDatabaseState Code = "database_state" // detached

	CodeNoWorker       Code = "no_worker"
	CodeWorkersSilent  Code = "workers_silent" // no worker has given a sign of life lately
	CodeAllDraining    Code = "all_draining"
	CodeNoWorkerKind   Code = "no_worker_for_kind"
	CodeNoWorkerQueue  Code = "no_worker_for_queue"
	CodeNoWorkerForTwo Code = "no_worker_for_kind_and_queue"
	CodeClaimsFail     Code = "claims_fail" // a worker's claims for the queue fail, one after the other

	CodeTenantLimit     Code = "tenant_limit"
	CodeKindLimit       Code = "kind_limit"
	CodeKindTenantLimit Code = "kind_tenant_limit"
	CodeQueueLimit      Code = "queue_limit"
	CodeServerBudget    Code = "server_budget"
	CodeBreakerOpen     Code = "breaker_open"
	CodeBreakerHalfOpen Code = "breaker_half_open"
	CodeRate            Code = "rate"

	CodeSuspect Code = "suspect"
	CodeTurn    Code = "turn"    // nothing stops it: who comes before
	CodeShare   Code = "share"   // the tenant's share of what is done
	CodeNoWork  Code = "no_work" // of a tenant: nothing waits that is due
)

// The codes of a job that does not wait; succeeded, cancelled and discarded are
// those of its state.
const (
	CodeUnconfirmed  Code = "unconfirmed"
	CodeRunning      Code = "running"
	CodeLostWorker   Code = "lost_worker"
	CodeWorkerSilent Code = "worker_silent" // the worker that runs it has given no sign of life lately
	CodeCancelling   Code = "cancelling"
	CodeQuarantined  Code = "quarantined"
	CodeRowLocked    Code = "row_locked" // somebody has locked its row
	CodeGone         Code = "gone"       // its row has left the queue
)

// stops are the codes of what stops work, in order.
var stops = []Code{
	CodePausedTenant, CodePausedKind, CodePausedQueue, CodePausedServer, CodeTenantStatus, CodeTenantMoving, CodeFeatureOff, CodeKindRefused, CodeServerState, CodeDatabaseState,
	CodeNoWorker, CodeWorkersSilent, CodeAllDraining, CodeNoWorkerKind, CodeNoWorkerQueue, CodeNoWorkerForTwo, CodeClaimsFail,
	CodeTenantLimit, CodeKindLimit, CodeKindTenantLimit, CodeQueueLimit, CodeServerBudget, CodeBreakerOpen, CodeBreakerHalfOpen, CodeRate,
}
