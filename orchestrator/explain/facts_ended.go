package explain

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// explainRunning says where the job runs.
func explainRunning(job jobs.Record, a around) []Fact {
	fact := Fact{Code: CodeRunning, Fact: fmt.Sprintf("it is running, attempt %d of %d", job.Attempt, job.MaxAttempts), Since: usual(a.attemptedAt)}
	if a.worker == "" {
		fact.Fact += ", on a worker that is not registered"
	} else {
		fact.Fact += fmt.Sprintf(", on worker %s (host %s, process %d)", a.worker, a.host, a.pid)
	}
	facts := []Fact{fact}
	switch {
	case a.workerLostAt != nil:
		facts = append(facts, Fact{Code: CodeLostWorker, Fact: "that worker is gone; the job is given to another within seconds", Since: a.workerLostAt})
	case a.silentSince != nil:
		facts = append(facts, Fact{Code: CodeWorkerSilent, Since: a.silentSince, Fact: "that worker has given no sign of life since " + moment(*a.silentSince, "UTC") + "; another worker that lives gives the job back",
			Next: "see that its process runs and reaches the central database; start another if none lives: `headgate worker`"})
	}
	return facts
}

// explainCancelling says how far a cancellation is.
func explainCancelling(job jobs.Record, a around) Fact {
	by, why := "", "its worker has been told and has not ended it yet"
	if a.waits {
		why = "an attempt at it may still be open, and the next one asks its tenant's ledger what that has come to"
	}
	wish := Fact{Code: CodeCancelling}
	if job.Cancel != nil {
		wish.Since = &job.Cancel.At
		if text := job.Cancel.String(); text != "cancelled" { // by whom, or why
			by = " (" + text + ")"
		}
	}
	wish.Fact = fmt.Sprintf("it is being cancelled%s: %s", by, why)
	wish.Next = fmt.Sprintf("wait; after %s a tombstone stops it in its tenant's ledger", jobs.TombstoneAfter)
	if job.Tombstone != "" {
		wish.Next = "a tombstone asks its tenant's ledger; see how it does: `headgate job explain " + job.Tombstone + "`"
	}
	return wish
}

// explainFinished says how the job ended, and whether it can be done again.
func explainFinished(job jobs.Record, a around) Fact {
	fact := Fact{Code: Code(job.State), Since: usual(job.FinishedAt), Next: "`headgate job retry " + job.UID + "` tries it again"}
	last := job.Last()
	switch {
	case job.State == jobs.Succeeded:
		fact.Fact, fact.Next = "it has succeeded", "`headgate job rerun "+job.UID+"` does it once more, as a new job"
		if last != nil && last.Recovered {
			fact.Fact += "; the ledger said that an earlier attempt had done it"
		}
	case job.State == jobs.Discarded && (a.quarantinedAt != nil || last != nil && last.Class == jobs.ClassQuarantined):
		fact.Code = CodeQuarantined
		fact.Fact = "it is in quarantine: its worker died three times while this job alone was under suspicion"
		fact.Next = "find out what it does to its worker; then `headgate job retry " + job.UID + "` releases it"
	case last != nil && last.Class == jobs.ClassUnsafe:
		fact.Fact = "its last attempt " + queue.Ending(*last)
		fact.Next = "look whether its effect is there; if it is not, `headgate job rerun " + job.UID + "` makes a new job of it"
	case job.Tombstone != "":
		fact.Fact = "it was cancelled, and stopped in its tenant's ledger"
		if job.Cancel != nil {
			fact.Fact = fmt.Sprintf("it was %s, and stopped in its tenant's ledger", job.Cancel)
		}
		fact.Next = "`headgate job rerun " + job.UID + "` makes a new job of it"
	case job.Cancel != nil && job.State == jobs.Cancelled:
		fact.Fact = "it was " + job.Cancel.String()
	case job.State == jobs.Discarded:
		fact.Fact = fmt.Sprintf("it has used up its attempts (%d)", job.MaxAttempts)
		if last != nil {
			fact.Fact += "; the last " + queue.Ending(*last)
		}
	case last != nil:
		fact.Fact = "its last attempt " + queue.Ending(*last)
	default:
		fact.Fact = "it was " + string(job.State)
	}
	if last != nil && last.Class == jobs.ClassBadArgs && job.State != jobs.Succeeded {
		fact.Next = sameArgs(fact.Next)
	}
	return fact
}

// usual is a time that is known, and that programs can read.
func usual(t *jobs.Time) *time.Time {
	if t == nil {
		return nil
	}
	return t.Usual()
}
