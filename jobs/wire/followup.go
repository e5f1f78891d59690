package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
)

// FollowUp is a job that another job's handler asked for: a row of the queue
// that is not inserted yet.
type FollowUp struct {
	UID   string          `json:"uid"`
	Kind  string          `json:"kind"`
	Scope jobs.Scope      `json:"scope,omitempty"`
	Args  json.RawMessage `json:"args"`
	RunAt *time.Time      `json:"run_at,omitempty"`
	Choices
}

// Follow adds a job to those that a handler has asked for; see jobs.Info. forTenant
// says that the handler's own job is for a tenant, and not about a whole database.
func Follow(asked []FollowUp, forTenant bool, args jobs.Args, opts *jobs.FollowUpOpts) ([]FollowUp, error) {
	if opts == nil {
		opts = &jobs.FollowUpOpts{}
	}
	raw, err := EncodeArgs(args)
	if err != nil {
		return asked, jobs.AsInputError("args", err)
	}
	kind := jobs.KindOptsOf(args)
	f := FollowUp{
		Kind: args.Kind(), Scope: kind.Scope, Args: raw,
		Choices: Choices{opts.Queue, opts.Priority, opts.MaxAttempts}.Complete(kind),
	}
	if !opts.RunAt.IsZero() {
		at := opts.RunAt
		f.RunAt = &at
	}
	if err := f.check(forTenant); err != nil {
		return asked, fmt.Errorf("follow-up of kind %s: %w", f.Kind, err)
	}
	if len(asked) >= jobs.MaxFollowUps {
		return asked, jobs.AsInputError("args", fmt.Errorf("follow-up of kind %s: a job may ask for %d at most; enqueue many jobs with EnqueueMany", f.Kind, jobs.MaxFollowUps))
	}
	return append(asked, f), nil
}

func (f *FollowUp) check(forTenant bool) error {
	if err := f.Check(f.Kind); err != nil {
		return err
	}
	if f.Scope == jobs.ScopeTenant && !forTenant {
		return jobs.AsInputError("args", errors.New("it works for one tenant, and this job is about a whole database"))
	}
	return nil
}

// storedResult is what an attempt has left, as the ledger keeps it.
type storedResult struct {
	Rows      int64      `json:"rows,omitempty"`
	Output    string     `json:"output,omitempty"`
	FollowUps []FollowUp `json:"follow_ups,omitempty"`
}

// StoreResult encodes what an attempt leaves, for the ledger.
func StoreResult(result jobs.Result, followUps []FollowUp) ([]byte, error) {
	return json.Marshal(storedResult{result.Rows, result.Output, followUps})
}

// RestoreResult decodes what StoreResult has encoded.
func RestoreResult(stored []byte) (jobs.Result, []FollowUp, error) {
	var s storedResult
	if err := json.Unmarshal(stored, &s); err != nil {
		return jobs.Result{}, nil, err
	}
	return jobs.Result{Rows: s.Rows, Output: s.Output}, s.FollowUps, nil
}
