package explain

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// facts are what stops the work, in the order in which it must pass; none if
// nothing does.
func (s *standing) facts() []Fact {
	var facts []Fact
	for _, p := range s.pauses {
		facts = append(facts, s.paused(p))
	}
	facts = append(facts, s.place()...)
	facts = append(facts, s.workersFor()...)
	facts = append(facts, s.claimsFailing()...)
	facts = append(facts, s.full()...)
	for _, b := range []struct {
		of  string
		row *breaker
	}{{"server " + s.server, s.serverBreaker}, {"database " + s.database, s.dbBreaker}} {
		if b.row != nil {
			facts = append(facts, s.tripped(b.of, b.row))
		}
	}
	if rate, from := s.limits.Rate(); rate != nil {
		if wait := rate.Wait(s.ahead); wait > 0 {
			at := s.now.Add(wait).UTC()
			facts = append(facts, Fact{Code: CodeRate, Until: &at, Next: s.raise("--rate N/" + rate.Per.String()),
				Fact: fmt.Sprintf("tenant %s has used up its rate of %s (%s); its next job may start %s", s.tenant, rate, from, moment(at, s.zone))})
		}
	}
	return facts
}

var pauseCodes = map[admission.Subject]Code{admission.OfTenant: CodePausedTenant, admission.OfKind: CodePausedKind, admission.OfQueue: CodePausedQueue, admission.OfServer: CodePausedServer}

func (s *standing) paused(p admission.Pause) Fact {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s is paused", p.Subject, p.Name)
	if p.By != "" {
		text.WriteString(" by " + p.By)
	}
	text.WriteString(" since " + moment(p.Since, s.zone))
	if p.Until != nil {
		text.WriteString(", until " + moment(*p.Until, s.zone))
	}
	if p.Note != "" {
		text.WriteString(": " + p.Note)
	}
	return Fact{Code: pauseCodes[p.Subject], Fact: text.String(), Since: &p.Since, Until: p.Until, Next: fmt.Sprintf("`headgate resume %s %s`", p.Subject, p.Name)}
}

// place says what of the catalog, or of River, keeps the work from being done.
func (s *standing) place() []Fact {
	var facts []Fact
	if s.queuePausedAt != nil {
		facts = append(facts, Fact{Code: CodePausedQueue, Fact: "queue " + s.queue + " is paused in River", Since: usual(s.queuePausedAt), Next: fmt.Sprintf("`headgate resume queue %s`", s.queue)})
	}
	facts = append(facts, s.refusals()...)
	if s.serverState.state != "" && s.serverState.state != "open" {
		facts = append(facts, s.closed(CodeServerState, "server "+s.server+", where its database lies,", s.serverState, "`headgate server resume "+s.server+"`"))
	}
	if s.databaseState.state == "detached" {
		facts = append(facts, s.closed(CodeDatabaseState, "database "+s.database, s.databaseState, "when it is where it is to be: `headgate database reattach "+s.database+"`"))
	}
	return facts
}

// refusals say why the tenant takes no work, or none of the kind.
func (s *standing) refusals() []Fact {
	var facts []Fact
	switch s.tenantStatus {
	case "suspended", "archived", "provisioning", "removed":
		facts = append(facts, s.status())
	case "moving":
		facts = append(facts, Fact{Code: CodeTenantMoving, Fact: fmt.Sprintf("tenant %s is being moved%s", s.tenant, s.unlessIdle("its work waits for the new place"))})
	}
	const goOn = ", and its jobs go on by themselves"
	switch s.refused {
	case "feature":
		facts = append(facts, Fact{Code: CodeFeatureOff, Fact: s.refusal + "; its jobs wait", Next: catalog.GiveFeature(s.tenant, s.lacking) + goOn})
	case "kinds":
		facts = append(facts, Fact{Code: CodeKindRefused, Fact: s.refusal + "; its jobs wait", Next: catalog.GiveKind(s.tenant, s.kinds, s.kind) + goOn})
	}
	return facts
}

// status says that the tenant takes no work, and what becomes of its waiting jobs.
func (s *standing) status() Fact {
	is := "tenant " + s.tenant + " is " + s.tenantStatus
	if s.statusReason != "" {
		is += " (" + s.statusReason + ")"
	}
	waiting, next := "its work waits", "`headgate tenant resume "+s.tenant+"` makes the tenant active"
	verb := map[string]string{"suspended": "headgate tenant suspend ", "archived": "headgate tenant archive "}[s.tenantStatus]
	switch {
	case s.tenantStatus == "removed":
		waiting, next = "its waiting jobs are being cancelled", "nobody can make the tenant active again: `headgate serve` cancels its waiting jobs"
	case verb != "" && s.cancels:
		waiting = "its waiting jobs are being cancelled"
		next += "; until then `headgate serve` cancels its waiting jobs"
	case verb != "" && !s.idle:
		next += "; or cancel its waiting jobs: `" + verb + s.tenant + " --waiting cancel`"
	}
	return Fact{Code: CodeTenantStatus, Fact: is + s.unlessIdle(waiting), Next: next}
}

// unlessIdle is what becomes of waiting work, where there is any.
func (s *standing) unlessIdle(waiting string) string {
	if s.idle {
		return ""
	}
	return "; " + waiting
}

// closed says of a server or a database that nothing starts there.
func (s *standing) closed(code Code, what string, state stateOf, next string) Fact {
	text := what + " is " + state.state
	if state.by != "" {
		text += " by " + state.by
	}
	if state.since != nil {
		text += " since " + moment(*state.since, s.zone)
	}
	if state.reason != "" {
		text += ": " + state.reason
	}
	return Fact{Code: code, Fact: text, Since: state.since, Next: next}
}

// workersFor says why no worker can take the work, if none can.
func (s *standing) workersFor() []Fact {
	w := s.workers
	switch {
	case w.alive == 0 && w.silent > 0:
		return []Fact{{Code: CodeWorkersSilent, Since: w.lastAt, Next: "see that their processes run and reach the central database, or " + s.startWorker(),
			Fact: fmt.Sprintf("no worker gives a sign of life: %s silent, the last since %s", areOf(w.silent, "worker"), moment(*w.lastAt, s.zone))}}
	case w.alive == 0:
		return []Fact{{Code: CodeNoWorker, Fact: "no worker is alive", Next: s.startWorker()}}
	case w.taking == 0:
		return []Fact{{Code: CodeAllDraining, Fact: fmt.Sprintf("all workers that are alive (%d) are stopping and take nothing more", w.alive), Next: s.startWorker()}}
	case w.fit > 0 || s.queue == "":
		return nil
	}
	var facts []Fact
	if w.knowing == 0 {
		facts = append(facts, Fact{Code: CodeNoWorkerKind, Fact: fmt.Sprintf("no live worker knows kind %s (%d alive)", s.kind, w.taking), Next: "start a worker program that registers the kind; `headgate worker list` shows what the others know"})
	}
	if w.working == 0 {
		facts = append(facts, Fact{Code: CodeNoWorkerQueue, Fact: fmt.Sprintf("no live worker works queue %s (%d alive)", s.queue, w.taking), Next: workTheQueue(s.kind, s.queue)})
	}
	if len(facts) == 0 {
		facts = append(facts, Fact{Code: CodeNoWorkerForTwo, Fact: fmt.Sprintf("no live worker both knows kind %s and works queue %s", s.kind, s.queue), Next: workTheQueue(s.kind, s.queue)})
	}
	return facts
}

// builtIn is what the names of the kinds begin with that `headgate worker` knows.
const builtIn = "headgate."

// WorkerOf is the command of a worker that works a queue. Each works default and bulk, whose
// slots are flags of their own, and refuses these queues in --queue.
func WorkerOf(queue string) string {
	if queue == "default" || queue == jobs.BulkQueue {
		return "`headgate worker`"
	}
	return "`headgate worker --queue " + queue + "=10`"
}

// workTheQueue says how a worker that knows the kind comes to work the queue.
func workTheQueue(kind, queue string) string {
	if strings.HasPrefix(kind, builtIn) {
		return "start a worker that does: " + WorkerOf(queue)
	}
	return fmt.Sprintf("let the worker program that registers kind %s work the queue too (Queues[%q] in its worker.Config)", kind, queue)
}

// startWorker is how a worker is started that does the work.
func (s *standing) startWorker() string {
	if s.kind == "" || strings.HasPrefix(s.kind, builtIn) {
		return "start one: `headgate worker`"
	}
	return "start a program that registers kind " + s.kind + "; `headgate worker` does the built-in kinds"
}

// claimsFailing names the workers that cannot claim.
// NextClaimsFail is what to do where claims fail.
const NextClaimsFail = "`headgate worker list` shows whose claims fail and why, with the session that is in the way, if one is; the central database's log may say more"

func (s *standing) claimsFailing() []Fact {
	facts := make([]Fact, 0, len(s.failing))
	for _, f := range s.failing {
		facts = append(facts, Fact{Code: CodeClaimsFail, Since: &f.Since, Next: NextClaimsFail,
			Fact: fmt.Sprintf("claims of queue %s fail on worker %s since %s, %d in a row: %s", f.Queue, f.worker, moment(f.Since, s.zone), f.Times, f.Error)})
	}
	return facts
}

// full are the limits that are used up.
func (s *standing) full() []Fact {
	var facts []Fact
	add := func(code Code, running int, limit *int, next, format string, args ...any) {
		if limit != nil && running >= *limit {
			facts = append(facts, Fact{Code: code, Fact: fmt.Sprintf(format, args...) + fmt.Sprintf(" %d/%d", running, *limit), Next: next})
		}
	}
	most, from := s.limits.MaxRunning()
	add(CodeTenantLimit, s.held.owner, most, s.raise("--max-running N"), "tenant %s is at its limit of running jobs (%s)", s.tenant, from)
	if s.queue != "" {
		owner := "its tenant"
		if s.tenant != "" {
			owner = "tenant " + s.tenant
		} else if s.database != "" {
			owner = "database " + s.database
		}
		next := "wait, or `headgate limit set kind " + jobs.ShellWord(s.kind)
		add(CodeKindLimit, s.held.kind, s.kindMax, next+" --max-running N`", "kind %s is at its limit of running jobs", s.kind)
		add(CodeKindTenantLimit, s.held.ownerKind, s.kindEach, next+" --per-tenant N`", "kind %s is at its limit for %s", s.kind, owner)
		add(CodeQueueLimit, s.held.queue, s.queueMax, "wait, or `headgate limit set queue "+s.queue+" --max-running N`", "queue %s is at its limit of running jobs", s.queue)
	}
	if s.server != "" {
		jobs, kept := s.held.serverJobs, s.held.serverPlaces-s.held.serverJobs
		lost := ""
		if s.held.serverLost > 0 {
			lost = fmt.Sprintf("; %d of them of workers that give no sign of life", s.held.serverLost)
		}
		add(CodeServerBudget, s.held.serverPlaces, &s.budget, "wait, or `headgate server set "+s.server+" --budget N`",
			"server %s is at its budget (running jobs %d, kept connections %d%s)", s.server, jobs, kept, lost)
	}
	return facts
}

// raise is the command that changes a limit of the tenant.
func (s *standing) raise(flag string) string {
	return fmt.Sprintf("wait, or `headgate limit set tenant %s %s`", s.tenant, flag)
}

func (s *standing) tripped(of string, b *breaker) Fact {
	cause := b.Cause
	if cause != "" {
		cause = ": " + cause
	}
	is, was, next := "does not answer", "did not answer", "see that it answers"
	if b.Class != string(jobs.ClassUnreachable) {
		is, was, next = "refuses work ("+b.Class+")", "refused work ("+b.Class+")", "see why it refuses"
	}
	if b.Until.After(s.now) {
		return Fact{Code: CodeBreakerOpen, Since: &b.Since, Until: &b.Until,
			Fact: fmt.Sprintf("%s %s since %s%s; the next trial is %s", of, is, moment(b.Since, s.zone), cause, moment(b.Until, s.zone)),
			Next: next + "; the work then goes on by itself and has used no attempt"}
	}
	return Fact{Code: CodeBreakerHalfOpen, Since: &b.Since,
		Fact: fmt.Sprintf("%s %s since %s%s; it is being tried, by %d at a time", of, was, moment(b.Since, s.zone), cause, b.Allowed)}
}

// turns says who comes before, where nothing else stops a job; before is how many
// of its own lane do.
func (s *standing) turns(before int) []Fact {
	t := s.turn
	var facts []Fact
	var first []string
	if t.before > 0 {
		first = append(first, countOf(t.before, "lane")+" (a tenant's work of one kind) had less service")
	}
	if before > 0 {
		first = append(first, countOf(before, "job")+" of its own lane")
	}
	if len(first) > 0 {
		facts = append(facts, Fact{Code: CodeTurn, Fact: fmt.Sprintf("it waits its turn in queue %s; before it: %s", s.queue, strings.Join(first, ", and "))})
	}
	if share, ok := s.share(); ok {
		facts = append(facts, share)
	}
	return facts
}

// share is the owner's part of the queue's worker-seconds.
func (s *standing) share() (Fact, bool) {
	t := s.turn
	if !t.active || t.weights <= 0 || s.tenant == "" {
		return Fact{}, false
	}
	part, most := 100*t.weight/t.weights, ""
	if t.owners >= maxCount {
		most = "at most "
	}
	return Fact{Code: CodeShare, Next: "",
		Fact: fmt.Sprintf("tenant %s has %s%.3g %% of queue %s: weight %g of %.4g over %s with work that is due", s.tenant, most, part, s.queue, t.weight, t.weights, countOf(t.owners, "tenant"))}, true
}

func areOf(n int, noun string) string {
	if n == 1 {
		return jobs.CountVerb(n, noun, "is", "are")
	}
	return countOf(n, noun) + " are"
}

// countOf says of maxCount that there may be more.
func countOf(n int, noun string) string {
	if n >= maxCount {
		return strings.Replace(jobs.Count(maxCount, noun), " ", "+ ", 1)
	}
	return jobs.Count(n, noun)
}
