package jobs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// FollowUpOpts are the choices for one follow-up. nil, or the zero value of a
// field, means the kind's own setting, then the default given here.
type FollowUpOpts struct {
	RunAt       time.Time // default: when this job is done
	Queue       string    // default "default"
	Priority    int       // 1 (first, the default) to 4
	MaxAttempts int       // 1 to 1000, default 25
}

// FollowUp is a job that another job's handler asked for: a row of the queue
// that is not inserted yet.
type FollowUp struct {
	UID         string          `json:"uid"`
	Kind        string          `json:"kind"`
	Scope       Scope           `json:"scope,omitempty"`
	Args        json.RawMessage `json:"args"`
	RunAt       *time.Time      `json:"run_at,omitempty"`
	Queue       string          `json:"queue"`
	Priority    int             `json:"priority"`
	MaxAttempts int             `json:"max_attempts"`
}

// MaxFollowUps bounds the follow-ups of one job. Many more belong into the
// queue by EnqueueMany, or into a chain of jobs.
const MaxFollowUps = 1000

// Follow asks for another job, for the same tenant (or, for a kind of scope
// database, the same database) once this one has succeeded. It is kept in the
// tenant's ledger with this job's own rows, and is in the queue from the moment
// that this job counts as succeeded: exactly once, whoever dies when. If this
// attempt fails, nothing is asked for.
//
// An error says which value is wrong. Not safe for concurrent use.
func (i *Info) Follow(args Args, opts *FollowUpOpts) error {
	if opts == nil {
		opts = &FollowUpOpts{}
	}
	raw, err := EncodeArgs(args)
	if err != nil {
		return err
	}
	kind := KindOptsOf(args)
	f := FollowUp{
		Kind: args.Kind(), Scope: kind.Scope, Args: raw,
		Queue:       cmp.Or(opts.Queue, kind.Queue, "default"),
		Priority:    cmp.Or(opts.Priority, kind.Priority, 1),
		MaxAttempts: cmp.Or(opts.MaxAttempts, kind.MaxAttempts, 25),
	}
	if !opts.RunAt.IsZero() {
		f.RunAt = &opts.RunAt
	}
	if err := f.check(i.Tenant.ID != ""); err != nil {
		return fmt.Errorf("follow-up of kind %s: %w", f.Kind, err)
	}
	if len(i.Result.followUps) >= MaxFollowUps {
		return fmt.Errorf("follow-up of kind %s: a job may ask for %d at most; enqueue many jobs with EnqueueMany", f.Kind, MaxFollowUps)
	}
	i.Result.followUps = append(i.Result.followUps, f)
	return nil
}

func (f *FollowUp) check(forTenant bool) error {
	if err := CheckKind(f.Kind); err != nil {
		return err
	}
	if err := CheckQueue(f.Queue); err != nil {
		return err
	}
	switch {
	case f.Priority < 1 || f.Priority > 4:
		return fmt.Errorf("priority is %d: give 1 (first) to 4", f.Priority)
	case f.MaxAttempts < 1 || f.MaxAttempts > 1000:
		return fmt.Errorf("max attempts is %d: give 1 to 1000", f.MaxAttempts)
	case f.Scope == ScopeTenant && !forTenant:
		return errors.New("it works for one tenant, and this job is about a whole database")
	}
	return nil
}

// FollowUps returns what the handler has asked for so far. The slice is the
// Result's own: a caller that gives the jobs their UIDs does it in place.
func (r *Result) FollowUps() []FollowUp { return r.followUps }

// storedResult is a Result as the ledger keeps it.
type storedResult struct {
	Rows      int64      `json:"rows,omitempty"`
	Output    string     `json:"output,omitempty"`
	FollowUps []FollowUp `json:"follow_ups,omitempty"`
}

// Store encodes a Result, follow-ups included, for the ledger.
func (r *Result) Store() ([]byte, error) {
	return json.Marshal(storedResult{r.Rows, r.Output, r.followUps})
}

// Restore decodes what Store has encoded.
func (r *Result) Restore(stored []byte) error {
	var s storedResult
	if err := json.Unmarshal(stored, &s); err != nil {
		return err
	}
	*r = Result{Rows: s.Rows, Output: s.Output, followUps: s.FollowUps}
	return nil
}
