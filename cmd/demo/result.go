package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/jobs"
)

// result is what the demo has to show.
type result struct {
	tenants   []*tenant
	databases []*database
	jobs      []endedJob
	visits    map[*database]visits
	transfers int      // that were checked, and are right
	wrong     []string // what is not as promised
	folder    string   // of the reports
	took      time.Duration
}

// endedJob is a job with the outcome of its last attempt, the zero Outcome if
// none has ended.
type endedJob struct {
	jobs.Record
	tenant *tenant // nil for a job on a whole database
	last   jobs.Outcome
}

// inspect gathers the outcomes, and looks whether everything is as promised.
// The sessions are counted first, before anybody looks into a database.
func (d *demo) inspect(ctx context.Context, list []jobs.Record) (*result, error) {
	r := &result{tenants: d.tenants, databases: d.cluster.databases, folder: d.folder}
	var err error
	if r.visits, err = d.cluster.visits(ctx); err != nil {
		return nil, err
	}
	for _, database := range r.databases {
		switch opened := r.visits[database].any(); {
		case opened && database.idle():
			r.wrong = append(r.wrong, fmt.Sprintf("database %s had no work and was opened", database.name))
		case !opened && !database.idle():
			r.wrong = append(r.wrong, fmt.Sprintf("database %s had work and was not opened", database.name))
		}
	}
	if !slices.ContainsFunc(list, func(job jobs.Record) bool { return job.Schedule != "" }) {
		r.wrong = append(r.wrong, "no schedule has made a job")
	}
	if r.transfers, err = d.cluster.checkTransfers(ctx, list); err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	if r.jobs, err = d.outcomes(ctx, list); err != nil {
		return nil, err
	}
	r.took = time.Since(d.began)
	return r, nil
}

// outcomes reads how each job ended, and sorts them by tenant: first what was
// asked for, in that order, then what schedules made, which comes due in between.
func (d *demo) outcomes(ctx context.Context, list []jobs.Record) ([]endedJob, error) {
	ended := make([]endedJob, len(list))
	for i, job := range list {
		job, err := d.app.client.Job(ctx, job.UID)
		if err != nil {
			return nil, err
		}
		ended[i].Record = job
		if last := job.Last(); last != nil {
			ended[i].last = *last
		}
		if at := d.position(job); at < len(d.tenants) {
			ended[i].tenant = d.tenants[at]
		}
	}
	slices.SortFunc(ended, func(a, b endedJob) int {
		return cmp.Or(
			cmp.Compare(d.position(a.Record), d.position(b.Record)), cmp.Compare(a.Database, b.Database),
			cmp.Compare(a.Schedule, b.Schedule), cmp.Compare(a.UID, b.UID))
	})
	return ended, nil
}

// position is where a job's tenant stands in the cast; those of whole databases
// come last.
func (d *demo) position(job jobs.Record) int {
	at := slices.IndexFunc(d.tenants, func(t *tenant) bool { return t.slug == job.Tenant })
	if at < 0 {
		return len(d.tenants)
	}
	return at
}

func (j endedJob) succeeded() bool {
	return j.State == jobs.Succeeded && j.last.State == jobs.Succeeded
}

func (r *result) succeeded() (n int) {
	for _, j := range r.jobs {
		if j.succeeded() {
			n++
		}
	}
	return n
}

// ok says that every job succeeded and every promise is kept.
func (r *result) ok() bool { return r.succeeded() == len(r.jobs) && len(r.wrong) == 0 }

// summary is the result for machines.
type summary struct {
	Tenants          int     `json:"tenants"`
	Jobs             int     `json:"jobs"`
	Succeeded        int     `json:"succeeded"`
	Failed           int     `json:"failed"` // not succeeded, whatever the reason
	DatabasesOpened  int     `json:"databases_opened"`
	TenantsUntouched int     `json:"tenants_untouched"` // whose database nobody has entered
	Seconds          float64 `json:"seconds"`
	Reports          string  `json:"reports"` // the folder
}

func (r *result) summary() summary {
	s := summary{
		Tenants: len(r.tenants), Jobs: len(r.jobs), Succeeded: r.succeeded(),
		Seconds: math.Round(r.took.Seconds()*100) / 100, Reports: r.folder,
	}
	s.Failed = s.Jobs - s.Succeeded
	for _, d := range r.databases {
		if r.visits[d].any() {
			s.DatabasesOpened++
		} else {
			s.TenantsUntouched += len(d.tenants)
		}
	}
	return s
}

// print shows the result in the format asked for.
func (r *result) print(s screen, format string) error {
	if format == "json" {
		return json.NewEncoder(s.out).Encode(r.summary())
	}
	return r.printTable(s)
}
