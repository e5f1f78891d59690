package explain

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// explain is the rule of Explain: from rows to sentences.
func explain(job jobs.Record, a around, s *standing) []Fact {
	facts := explainState(job, a, s)
	if a.lockedBy != "" {
		facts = append(facts, Fact{Code: CodeRowLocked, Fact: "its row is locked by " + a.lockedBy + ": it is neither claimed nor ended until that transaction is over",
			Next: central.EndSession(a.lockedBy)})
	}
	return facts
}

func explainState(job jobs.Record, a around, s *standing) []Fact {
	var facts []Fact
	switch job.State {
	case jobs.Running:
		return explainRunning(job, a)
	case jobs.Cancelling:
		facts = append(facts, explainCancelling(job, a))
		if !a.waits {
			return append(explainRunning(job, a), facts...)
		}
		job.State = jobs.Waiting
	case jobs.Succeeded, jobs.Cancelled, jobs.Discarded:
		return []Fact{explainFinished(job, a)}
	case jobs.Unconfirmed:
		return []Fact{{Code: CodeUnconfirmed, Fact: "it is unconfirmed: the transaction that enqueues it is not confirmed yet", Since: job.EnqueuedAt.Usual()}}
	}
	due := explainTime(job, s)
	if len(facts) > 0 || len(s.refusals()) > 0 {
		due.Next = "" // nothing brings it forward
	}
	facts = append(facts, due)
	if held, ok := explainHeld(job); ok {
		facts = append(facts, held)
	}
	found := s.facts()
	facts = append(facts, found...)
	if a.deaths > 0 {
		facts = append(facts, Fact{Code: CodeSuspect, Fact: fmt.Sprintf("it is under suspicion: workers died while it ran (%d), so it runs only where no other suspect does", a.deaths)})
	}
	if due := !job.ScheduledAt.After(s.now); due && job.State == jobs.Waiting && len(found) == 0 {
		facts = append(facts, s.turns(a.before)...)
	}
	return facts
}

// explainTime says when the job's time is, or that it has come.
func explainTime(job jobs.Record, s *standing) Fact {
	due := !job.ScheduledAt.After(s.now)
	at := moment(job.ScheduledAt.Time, s.zone)
	last := job.Last()
	switch {
	case due && job.State == jobs.Waiting:
		return Fact{Code: CodeDue, Fact: "it is waiting for a worker; due " + at, Since: job.ScheduledAt.Usual()}
	case due:
		return Fact{Code: CodeDue, Fact: fmt.Sprintf("it %s and is due %s; within seconds it is waiting for a worker", job.State.Phrase(), at), Since: job.ScheduledAt.Usual()}
	case job.State == jobs.Failed:
		return Fact{Code: CodeRetryDue, Until: job.ScheduledAt.Usual(), Fact: fmt.Sprintf("attempt %d of %d failed; the next one is due %s", job.Attempt, job.MaxAttempts, at), Since: endOf(last), Next: runNow(job)}
	case last != nil && last.State == jobs.Snoozed && last.Class == "":
		return Fact{Code: CodePutOff, Until: job.ScheduledAt.Usual(), Fact: "its handler put it off; due " + at, Since: endOf(last), Next: putOff(job)}
	}
	return Fact{Code: CodeNotDue, Until: job.ScheduledAt.Usual(), Fact: fmt.Sprintf("it %s; due %s", job.State.Phrase(), at), Since: job.EnqueuedAt.Usual(), Next: runNow(job)}
}

// eraseKind is the kind that deletes the rows of a removed tenant.
const eraseKind = "headgate.erase"

// putOff says what helps a job whose handler has put it off. An erasure waits for other jobs,
// and would only look again.
func putOff(job jobs.Record) string {
	if job.Kind == eraseKind {
		return "`headgate job show " + job.UID + "` says which jobs of the tenant it waits for"
	}
	return runNow(job)
}

// runNow says how the job runs now, and what else that wants: workers remember some refusals.
func runNow(job jobs.Record) string {
	now := "`headgate job retry " + job.UID + "` runs it now"
	last := job.Last()
	if last == nil {
		return now
	}
	switch last.Class {
	case jobs.ClassAuthFailed:
		login := strings.ReplaceAll("`headgate database login DATABASE`", "DATABASE", cmp.Or(job.Database, "NAME"))
		return now + ", but workers try a login that was refused again only after " + login + " (also with the same address), or " + remembersLogin + " after the refusal"
	case jobs.ClassWrongDatabase, jobs.ClassWrongCentre, jobs.ClassUndecryptable, jobs.ClassSchemaNewer, jobs.ClassUntrusted:
		return now + ", but workers remember the refusal for up to " + remembersPlace
	case jobs.ClassBadArgs:
		return sameArgs(now)
	}
	return now
}

// sameArgs says that a job whose arguments do not fit needs another worker, or to be enqueued
// anew, beside what makes it run.
func sameArgs(next string) string {
	return next + " with the same arguments, which only another version of the kind takes; else enqueue it anew with arguments that fit"
}

// What workers remember at most of a refusal, as tenantdb.Config.AuthPause has it unless set,
// and a fifth more.
const remembersLogin, remembersPlace = "6 minutes", "36 seconds"

// moment is a time in the tenant's zone and in UTC.
func moment(at time.Time, zone string) string {
	const form = "2006-01-02 15:04:05"
	if t := (jobs.Time{Time: at}); t.Infinite() {
		return t.String()
	}
	utc := at.UTC().Format(form) + " UTC"
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "UTC" {
		return utc
	}
	return at.In(location).Format(form) + " " + zone + " = " + utc
}

func endOf(o *jobs.Outcome) *time.Time {
	if o == nil {
		return nil
	}
	return &o.EndedAt
}

// explainHeld says what ended the last attempt, and since when that has been so.
func explainHeld(job jobs.Record) (Fact, bool) {
	last := job.Last()
	if last == nil || last.Class == "" {
		return Fact{}, false
	}
	if h := job.Held; h != nil && h.Class == last.Class && h.Times > 1 { // the history does not keep all of them
		fact := fmt.Sprintf("its last %d attempts ended as %s, since %s, and used none: %s", h.Times, h.Class, h.Since.UTC().Format("2006-01-02 15:04:05 UTC"), last.Message)
		return Fact{Code: CodeLastAttempt, Fact: fact, Since: &h.Since, Next: step(last.Class, last.SQLState, job.Database)}, true
	}
	first := len(job.Attempts) - 1
	for first > 0 && job.Attempts[first-1].Class == last.Class {
		first--
	}
	fact := fmt.Sprintf("its last attempt ended as %s: %s", last.Class, last.Message)
	if n := len(job.Attempts) - first; n > 1 {
		fact = fmt.Sprintf("its last %s ended as %s: %s", jobs.Count(n, "attempt"), last.Class, last.Message)
	}
	return Fact{Code: CodeLastAttempt, Fact: fact, Since: &job.Attempts[first].EndedAt, Next: step(last.Class, last.SQLState, job.Database)}, true
}

// step is what an operator can do about a class, with the name of the database. sqlstate may
// be unknown.
func step(class jobs.Class, sqlstate, database string) string {
	database = cmp.Or(database, "NAME")
	switch class {
	case jobs.ClassWrongDatabase:
		return Elsewhere(database, sqlstate) + "; the job then goes on by itself"
	case jobs.ClassUnreachable:
		return Unanswered(database, "", nil) + "; the job then goes on by itself and has used no attempt"
	}
	return strings.ReplaceAll(classSteps[class], "DATABASE", database)
}

// classSteps has the steps, with DATABASE where its name belongs; places.go has those that
// depend on more than the class. For the handler's own
// errors, and for what has passed when it is told, there is none.
var classSteps = map[jobs.Class]string{
	jobs.ClassServerFull:       "the message says whose connections are used up: raise max_connections of the server, or the CONNECTION LIMIT of the database or role, or let others use fewer; `headgate server list` shows what Headgate uses",
	jobs.ClassAuthFailed:       "give the catalog the right login: `headgate database login DATABASE`, with its address in HEADGATE_JOB_URL (of the owner: HEADGATE_OWNER_URL); the job then goes on within a minute, and within 7 minutes if the login was mended at the server only",
	jobs.ClassReadOnly:         "make the server a primary again, or point the catalog at the primary: `headgate database login DATABASE`",
	jobs.ClassReplica:          "see that the replica runs and follows its primary (`headgate doctor` looks at it; pg_stat_replication on the primary); the job then goes on by itself and has used no attempt; `headgate database login DATABASE --no-job-read` has such jobs read from the primary",
	jobs.ClassDiskFull:         "free some disk on the tenant's server",
	jobs.ClassUnprotected:      "`headgate database protect DATABASE` lists what is open and says what to do about each; the job then goes on by itself",
	jobs.ClassWrongCentre:      "see which central database is to work it, stop `headgate serve` and the workers of the other, then, on the right one: `headgate central adopt --database DATABASE`, or --all after a restore or a move; once that is done the job goes on by itself",
	jobs.ClassSchemaNewer:      "upgrade the workers",
	jobs.ClassSchemaOlder:      "workers bring it up to date by the owner login: see that this one works, `headgate doctor --all`",
	jobs.ClassUndecryptable:    "give the workers the key that the catalog was sealed with",
	jobs.ClassConnectTimeout:   "see whether the tenant's server answers slowly, or all connections of its budget are in use: `headgate server list`",
	jobs.ClassStatementTimeout: "make its statements faster, or give its kind more time (KindOpts.Timeout)",
	jobs.ClassTimeout:          "make the job faster, or give its kind more time (KindOpts.Timeout; KindOpts.IdleTimeout if the message names that)",
	jobs.ClassUntrusted:        "what the message says; `headgate ca add NAME FILE` adds the authority that signed the server's certificate, and sslrootcert=NAME in the address names it; once that is done the job goes on by itself",
	jobs.ClassNotPermitted:     "what the message says; the job then goes on by itself",
	jobs.ClassOutput:           "free some disk where the workers write their files (`--reports`), or let them write there; the message names the file",
	jobs.ClassLockTimeout:      "see in pg_locks who holds the lock in the tenant's database; the job then goes on by itself and has used no attempt",
	jobs.ClassConflict:         "nothing: it is tried again; if that happens often, let fewer of these jobs run at once",
	jobs.ClassUnguarded:        "give the table that its error names a policy for headgate_job, then `headgate job rerun`",
	jobs.ClassEscaped:          "take out of its SQL what ends the transaction or changes the role or tenant",
	jobs.ClassBadArgs:          "see that the workers' version of the kind fits what was enqueued, and that whoever wrote the row did it as package jobs says (Meta)",
}
