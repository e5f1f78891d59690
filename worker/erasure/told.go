package erasure

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// mostNamed is how many tables of a sort are named.
const mostNamed = 100

// mostFiles is how many files that stay are named.
const mostFiles = 10

// told is what an attempt has done, and has left.
type told struct {
	order   []string
	deleted map[string]int64
	ledger  int64
	left    []leftOf
	cleared wire.Cleared
	files   int
	missing int
	stuck   int      // files that could not be deleted
	stays   []string // some of them, and why
}

type leftOf struct {
	*table
	left
	own     []uint32 // tables whose rows of the tenant refer to rows that are left
	foreign bool     // rows that are not the tenant's refer to some
	circle  bool
}

func (t *told) add(name string, n int64) {
	if t.deleted == nil {
		t.deleted = map[string]int64{}
	}
	if _, known := t.deleted[name]; !known {
		t.order = append(t.order, name)
	}
	t.deleted[name] += n
}

// stick notes a file that could not be deleted.
func (t *told) stick(key string, err error) {
	if t.stuck++; t.stuck <= mostFiles {
		t.stays = append(t.stays, fmt.Sprintf("%s: %v", key, err))
	}
}

// rows are those of the application's tables.
func (t *told) rows() (n int64) {
	for _, some := range t.deleted {
		n += some
	}
	return n
}

// lines has a line for each table with rows.
func (t *told) lines() (all []string, empty int) {
	for _, name := range t.order {
		switch {
		case t.deleted[name] == 0:
			empty++
		case len(all) < mostNamed:
			all = append(all, fmt.Sprintf("%s: %d", name, t.deleted[name]))
		case len(all) == mostNamed:
			all = append(all, "and further tables")
		}
	}
	return all, empty
}

func (e *eraser) counted() string {
	lines, empty := e.told.lines()
	head := fmt.Sprintf("counted, nothing erased: %q (org_id %d) has %s in %s, and none in %d further ones", e.target.Name, e.target.OrgID, jobs.Count(e.told.rows(), "row"), jobs.Count(len(e.told.order)-empty, "table"), empty)
	all := append([]string{head}, lines...)
	for _, l := range e.told.left[:min(len(e.told.left), mostNamed)] {
		all = append(all, "would stay: "+l.Name+": "+l.why)
	}
	return strings.Join(append(all, e.tail()...), "\n")
}

func (e *eraser) erased() string {
	lines, empty := e.told.lines()
	head := fmt.Sprintf("erased %q (org_id %d): %s of %s deleted, and none in %d further ones", e.target.Name, e.target.OrgID, jobs.Count(e.told.rows(), "row"), jobs.Count(len(e.told.order)-empty, "table"), empty)
	all := append(append([]string{head}, lines...), e.tail()...)
	c := e.told.cleared
	all = append(all, fmt.Sprintf("central database: %s cleared, %s and %s deleted", jobs.Count(c.Outcomes, "outcome"), jobs.Count(c.Jobs, "job"), jobs.Count(c.Keys, "idempotency key")))
	if e.cfg.RemoveFile == nil {
		all = append(all, "files of reports: left where they are, because this worker deletes none")
	} else {
		all = append(all, fmt.Sprintf("files of reports: %d deleted, %d not where this worker keeps them", e.told.files, e.told.missing))
	}
	return strings.Join(all, "\n")
}

// tail names Headgate's own rows, and what is not touched.
func (e *eraser) tail() []string {
	all := []string{fmt.Sprintf("headgate.ledger: %d", e.told.ledger)}
	for i, o := range e.plan.others {
		if i == mostNamed {
			all = append(all, "and further tables that are not declared")
			break
		}
		if o.Broken {
			all = append(all, fmt.Sprintf("would stay: %s: %s", o.Name, e.declare(o)))
			continue
		}
		all = append(all, fmt.Sprintf("not declared, not touched: %s (%s); if it holds rows of tenants, %s and erase what remains by hand", o.Name, o.Why, o.Command(e.job.Database)))
	}
	if e.job.Dedicated {
		all = append(all, "the database is dedicated: what is not declared stays until its operator drops the database")
	}
	return all
}

// declare says what helps where a declaration leads nowhere.
func (e *eraser) declare(o protection.Undeclared) string {
	return fmt.Sprintf("%s: declare it anew with %s", o.Why, o.Command(e.job.Database))
}

// stays is the error of rows that are left, a sentence for each table, and one for each circle.
func (e *eraser) stays(ctx context.Context) error {
	if err := e.leads(ctx); err != nil {
		return err
	}
	all := e.circles()
	for i, l := range e.told.left {
		if i == mostNamed {
			all = append(all, "and further tables")
			break
		}
		if said := l.sentence(); said != "" {
			all = append(all, said)
		}
	}
	return errors.New(fmt.Sprintf("%s deleted, and rows of %s stay; the job tries again: ", jobs.CountVerb(e.told.rows(), "row", "is", "are"), jobs.Count(len(e.told.left), "table")) + strings.Join(all, "; "))
}

// sentence is "" of a table whose circle has a sentence.
func (l leftOf) sentence() string {
	var why []string
	if l.locked > 0 {
		why = append(why, jobs.CountVerb(l.locked, "row", "is", "are")+" locked by other sessions")
	}
	switch {
	case l.referred == 0 || l.circle:
	case l.foreign:
		why = append(why, fmt.Sprintf("%s referred to by rows that are not this tenant's or not declared (%s)", jobs.CountVerb(l.referred, "row", "is", "are"), l.keys()))
	default:
		why = append(why, fmt.Sprintf("%s referred to by rows of the tenant that stay (%s)", jobs.CountVerb(l.referred, "row", "is", "are"), l.keys()))
	}
	if l.kept > 0 {
		why = append(why, jobs.CountVerb(l.kept, "row", "is", "are")+" kept by a trigger")
	}
	switch {
	case l.refused > 0:
		why = append(why, fmt.Sprintf("%s refused: %s", jobs.CountVerb(l.refused, "row", "is", "are"), l.why))
	case l.why != "":
		why = append(why, l.why)
	}
	if len(why) == 0 {
		return ""
	}
	return l.Name + ": " + strings.Join(why, ", ")
}

// keys names the foreign keys to a table.
func (l leftOf) keys() string {
	all := make([]string, len(l.references))
	for i, r := range l.references {
		all[i] = r.Name + " of " + r.Table
	}
	return strings.Join(all, ", ")
}
