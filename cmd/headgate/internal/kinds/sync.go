package kinds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/tenantsync"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// syncs makes the catalog as a table of tenants is. The audit has its changes under the job's
// UID as their operation.
func syncs(im *importer.Importer) tenantsync.Syncer {
	steady := importer.NewSteady(im)
	return func(ctx context.Context, job *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (jobs.Result, error) {
		var source error // what the tenant's database has said
		in := importer.Objects{
			Name: "table " + job.Args.Table + " of database " + job.Database, Columns: rows.Columns,
			Each: func(ctx context.Context, do func(row []byte) error) error {
				source = rows.Each(ctx, do)
				return source
			},
		}
		plan, err := steady.Import(syncActor(ctx, job), in, importer.Options{
			Source: job.Args.SourceName(), Database: job.Args.NewTenantsIn, AllowMissing: job.Args.AllowMissing,
			Confirm: func(*importer.Plan) error {
				source = rows.Ours(ctx)
				return source
			},
		})
		switch {
		case err != nil && source != nil:
			return jobs.Result{}, err
		case err != nil:
			return jobs.Result{}, syncError(ctx, job, err)
		}
		return jobs.Result{Rows: int64(plan.Tenants()), Output: syncOutput(job, plan)}, nil
	}
}

// syncActor is who makes the changes of a sync.
func syncActor(ctx context.Context, job *jobs.Job[tenantsync.Args]) context.Context {
	name := "job " + job.UID
	if job.Schedule != "" {
		name = "schedule " + job.Schedule
	}
	return access.With(ctx, access.Actor{
		Name: name, Surface: job.Kind, Operation: job.UID,
		Reason: fmt.Sprintf("sync %s with table %s of database %s", job.Args.SourceName(), job.Args.Table, job.Database),
	})
}

// mostNamed is how many tenants of each action a sync's output names.
const mostNamed = 20

func syncOutput(job *jobs.Job[tenantsync.Args], plan *importer.Plan) string {
	lines := []string{plan.Summary(false)}
	for _, action := range []string{importer.Add, importer.Change, importer.Suspend} {
		var names []string
		n := 0
		for _, item := range plan.Items {
			if item.Action != action {
				continue
			}
			if n++; n <= mostNamed {
				names = append(names, item.Tenant)
			}
		}
		if n > mostNamed {
			names = append(names, fmt.Sprintf("and %d more", n-mostNamed))
		}
		if n > 0 {
			lines = append(lines, action+": "+strings.Join(names, ", "))
		}
	}
	if plan.Tenants() > 0 {
		lines = append(lines, fmt.Sprintf("each change: `headgate audit list --operation %s`", job.UID))
	}
	return strings.Join(lines, "\n")
}

// syncError says what to do next about a sync that has written nothing, though its table could
// be read.
func syncError(ctx context.Context, job *jobs.Job[tenantsync.Args], err error) error {
	var held *importer.HeldError
	var wrong *importer.RowsError
	switch {
	case errors.As(err, &held):
		return fmt.Errorf("%w; look whether table %s has all its rows, and if these tenants are to be stopped: `%s`", err, job.Args.Table, releaseOf(job, held.Stops()))
	case errors.Is(err, importer.ErrEmpty):
		return fmt.Errorf("table %s of database %s: %w; look why it is empty, then: `%s`", job.Args.Table, job.Database, err, enqueueOf(job, job.Args))
	case errors.As(err, &wrong):
		for _, row := range wrong.Rows {
			job.Log().WarnContext(ctx, fmt.Sprintf("row %d: %s", row.Line, row.Says))
		}
		return fmt.Errorf("table %s of database %s: %w; all of them are in the log: `headgate job show %s`", job.Args.Table, job.Database, err, job.UID)
	case cli.LacksRight(err):
		return fmt.Errorf("%w; this worker's login of the central database may not change the catalog: have an administrator GRANT headgate_api TO that login, then: `%s`", err, enqueueOf(job, job.Args))
	}
	return err
}

// releaseOf is the command that suspends the tenants for which a sync is held. It is no trigger
// of the schedule, because a job that has attempts left keeps its schedule from another run.
func releaseOf(job *jobs.Job[tenantsync.Args], missing int) string {
	args := job.Args
	args.AllowMissing = missing
	return enqueueOf(job, args)
}

// enqueueOf has nothing in it that a shell would read: Check has seen to that.
func enqueueOf(job *jobs.Job[tenantsync.Args], args tenantsync.Args) string {
	text, err := json.Marshal(args)
	if err != nil {
		panic("kinds: " + err.Error()) // texts and a number
	}
	return fmt.Sprintf("headgate job enqueue %s --database %s --args '%s'", job.Kind, job.Database, text)
}
