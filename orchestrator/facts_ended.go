package orchestrator

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
)

// explainRunning says where the job runs, and how far a cancellation is.
func explainRunning(job Job, a around) []Fact {
	fact := Fact{Code: CodeRunning, Fact: fmt.Sprintf("it is running, attempt %d of %d", job.Attempt, job.MaxAttempts), Since: usual(a.attemptedAt)}
	if a.worker == "" {
		fact.Fact += ", on a worker that is not registered"
	} else {
		fact.Fact += fmt.Sprintf(", on worker %s (host %s, process %d)", a.worker, a.host, a.pid)
	}
	facts := []Fact{fact}
	if a.workerLostAt != nil {
		facts = append(facts, Fact{Code: CodeLostWorker, Fact: "that worker is gone; the job is given to another within seconds", Since: a.workerLostAt})
	}
	if job.State != Cancelling {
		return facts
	}
	wish := Fact{Code: CodeCancelling, Fact: "it is being cancelled: its worker has been told and has not ended it yet"}
	if job.Cancel != nil {
		wish.Fact, wish.Since = fmt.Sprintf("it is being cancelled (%s): its worker has been told and has not ended it yet", job.Cancel), &job.Cancel.At
	}
	if job.Tombstone == "" {
		wish.Next = fmt.Sprintf("wait; after %s a tombstone stops it in its tenant's ledger", TombstoneAfter)
	} else {
		wish.Next = "its worker is out of reach; see how the tombstone does: `headgate job explain " + job.Tombstone + "`"
	}
	return append(facts, wish)
}

// explainFinished says how the job ended, and whether it can be done again.
func explainFinished(job Job, a around) Fact {
	fact := Fact{Code: Code(job.State), Since: usual(job.FinishedAt), Next: "`headgate job retry " + job.name() + "` tries it again"}
	last := lastOf(job)
	switch {
	case job.State == "completed":
		fact.Fact, fact.Next = "it has succeeded", "`headgate job rerun "+job.name()+"` does it once more, as a new job"
		if last != nil && last.Recovered {
			fact.Fact += "; the ledger said that an earlier attempt had done it"
		}
	case job.State == "discarded" && (a.quarantinedAt != nil || last != nil && last.Class == jobs.ClassQuarantined):
		fact.Code = CodeQuarantined
		fact.Fact = "it is in quarantine: its worker died three times while this job alone was under suspicion"
		fact.Next = "find out what it does to its worker; then `headgate job retry " + job.name() + "` releases it"
	case job.Tombstone != "":
		fact.Fact = "it was cancelled, and stopped in its tenant's ledger"
		fact.Next = "`headgate job rerun " + job.name() + "` makes a new job of it"
	case job.Cancel != nil && job.State == "cancelled":
		fact.Fact = "it was " + job.Cancel.String()
	case job.State == "discarded":
		fact.Fact = fmt.Sprintf("it has used up its %d attempts", job.MaxAttempts)
		if last != nil {
			fact.Fact += "; the last " + ending(*last)
		}
	case last != nil:
		fact.Fact = "its last attempt " + ending(*last)
	default:
		fact.Fact = "it was " + job.State
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
