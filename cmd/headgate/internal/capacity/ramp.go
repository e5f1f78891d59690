package capacity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Run is one test.
type Run struct {
	Database string          // the catalog's name of the database that is meant
	Server   catalog.Server  // where it lies; the copy is made there
	Others   []string        // databases on the server, by their names there, whose workers count against the budget
	Admin    address.Address // used for this run and kept nowhere
	Job      address.Address // the database's logins, which the copy keeps
	Owner    address.Address
	Roots    string // of the authority that Admin names, in PEM form
	Template string // the database on the server that is copied
	Conns    int    // connections that the test may have on the server, the administrator's included

	Plan

	// Connect opens a connection past the server's pooler. whose is for its errors.
	Connect func(ctx context.Context, whose string, a address.Address) (*pgx.Conn, error)

	// Say hears sentences about what is being done.
	Say func(format string, args ...any)

	// Stderr takes the worker's warnings.
	Stderr io.Writer
}

// Plan is what is to be tried.
type Plan struct {
	First, Most int           // tenants in the first step and in the last; between them the number doubles
	For         time.Duration // of one step
	PerHour     float64       // jobs of each tenant
	Mix         Mix
	FirstOrg    int64         // the org_id of the first tenant; the others have those that follow
	Rows        int           // of the built-in table, for each tenant
	P95         time.Duration // what is not more is good
	Margin      int           // percent of the good number that are left free
}

// Conns that the test needs besides the worker's: the administrator's and the owner's.
const (
	besideWorker = 2
	LeastConns   = besideWorker + 1
)

// MaxJobs bounds the jobs of one step: their times are kept in memory.
const MaxJobs = 200_000

// Sizes are the numbers of tenants of the steps.
func (p Plan) Sizes() (sizes []int) {
	for n := p.First; n < p.Most; n *= 2 {
		sizes = append(sizes, n)
	}
	return append(sizes, p.Most)
}

// Offered is how many jobs a step has.
func (p Plan) Offered(tenants int) int {
	return max(1, int(p.PerHour*float64(tenants)*p.For.Hours()+0.5))
}

// drain is how long after a step its jobs may end.
func (p Plan) drain() time.Duration { return p.P95 + 10*time.Second }

// Longest bounds a run from the outside: a copy may take half an hour.
func (p Plan) Longest() time.Duration {
	return 30*time.Minute + time.Duration(len(p.Sizes()))*(p.For+p.drain()+5*time.Minute)
}

// Step is what one step came to. Times are milliseconds.
type Step struct {
	Tenants     int     `json:"tenants"`
	Jobs        int     `json:"jobs"`
	Offered     float64 `json:"offered_per_second"`
	Done        float64 `json:"done_per_second"` // within the step
	P50         float64 `json:"p50_ms"`          // from the moment when a job was to be offered to its end
	P95         float64 `json:"p95_ms"`
	P99         float64 `json:"p99_ms"`
	RunP95      float64 `json:"run_p95_ms"`  // of the attempt alone
	Connections int     `json:"connections"` // to the copy, at most
	Failed      int     `json:"failed"`
	Left        int     `json:"left"` // not ended some time after the step
	Bad         string  `json:"bad"`  // why the step is not good; "": it is

	backlog int // at the end of the step
	failure string
}

// Result is what a test came to.
type Result struct {
	Database   string `json:"database"`
	Template   string `json:"template"`
	Mix        string `json:"mix"`
	Steps      []Step `json:"steps"`
	Good       int    `json:"good_tenants"`   // of the last good step; 0: none was
	Margin     int    `json:"margin_percent"` // left free
	MaxTenants int    `json:"max_tenants"`    // what is proposed; 0: nothing
	Limited    bool   `json:"limited"`        // a step was not good; false: the database may hold more
	Set        bool   `json:"set"`            // the proposal is written
}

// Do makes the copy, ramps, and drops the copy, whatever happens. The result has the steps
// that came to their end, with an error too.
func (r *Run) Do(ctx context.Context) (result Result, err error) {
	result = Result{Database: r.Database, Template: r.Template, Mix: r.Mix.String(), Margin: r.Margin}
	s, err := r.open(ctx) // first, because the machine may have no Postgres
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	d, err := r.duplicate(ctx)
	if err != nil {
		return result, err
	}
	defer func() {
		stopped := s.stop(ctx)
		dropped := d.drop(ctx)
		if dropped == nil {
			r.Say("the copy is dropped")
		}
		err = errors.Join(err, stopped, dropped)
	}()
	if err := s.start(ctx, d); err != nil {
		return result, err
	}
	group, inner := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	group.Go(func() error { return s.watch(inner, ended) })
	group.Go(func() error {
		defer close(ended)
		return s.ramp(inner, &result)
	})
	err = group.Wait()
	return result, err
}

func (s *stage) ramp(ctx context.Context, result *Result) error {
	for _, tenants := range s.run.Sizes() {
		step, err := s.step(ctx, tenants)
		if err != nil {
			return fmt.Errorf("step of %s: %w", jobs.Count(tenants, "tenant"), err)
		}
		step.Bad = s.run.judge(step)
		result.Steps = append(result.Steps, step)
		if step.Bad != "" {
			result.Limited = true
			s.run.Say("%s: p95 %.0f ms; %s", jobs.Count(tenants, "tenant"), step.P95, step.Bad)
			break
		}
		s.run.Say("%s: p95 %.0f ms, good", jobs.Count(tenants, "tenant"), step.P95)
		result.Good = tenants
	}
	if result.Good > 0 {
		result.MaxTenants = max(1, result.Good*(100-s.run.Margin)/100)
	}
	return nil
}

// judge says why a step is not good.
func (p Plan) judge(s Step) string {
	limit := float64(p.P95.Milliseconds())
	arriving := int(s.Offered*p.P95.Seconds()) + 1 // in the time that a job may take
	switch {
	case s.Failed > 0:
		return fmt.Sprintf("%s failed, the first with %s", jobs.Count(s.Failed, "job"), s.failure)
	case s.Left > 0:
		return fmt.Sprintf("%s had not ended %s after the step", jobs.Count(s.Left, "job"), p.drain())
	case s.P95 > limit:
		return fmt.Sprintf("that is more than %.0f ms", limit)
	case s.backlog > arriving:
		return fmt.Sprintf("throughput fell behind: %s waited or ran at the end of the step, more than the %d that come in %.0f ms", jobs.Count(s.backlog, "job"), arriving, limit)
	}
	return ""
}
