// Example-worker is a worker program of a user's own: one kind, by what Headgate
// exports, and nothing else. The built-in kinds need no such program.
//
//	DATABASE_URL=postgres://… HEADGATE_KEY=… go run ./cmd/example-worker
package main

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Welcome asks that a new member of a tenant is greeted. It is a kind of the
// user's own: a struct with a name, and the function below.
type Welcome struct {
	Member string `json:"member"`
}

// Kind names it in the queue.
func (Welcome) Kind() string { return "welcome" }

// welcome does the job in one transaction of the tenant's own database. That it
// happens once is Headgate's part.
func welcome(ctx context.Context, tx pgx.Tx, job *jobs.Job[Welcome]) error {
	_, err := tx.Exec(ctx, `INSERT INTO greetings (org_id, text) VALUES ($1, $2)`,
		job.Tenant.OrgID, "Welcome to "+job.Tenant.Name+", "+job.Args.Member)
	return err
}
