package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// application is the SaaS's own program, in as much as it meets Headgate: it
// asks for work and never connects to a tenant database.
type application struct {
	db        *pgxpool.Pool // the central database
	client    *orchestrator.Client
	schedules *schedule.Store
}

func newApplication(central *pgxpool.Pool, tenants *catalog.Catalog) (*application, error) {
	client, err := orchestrator.New(orchestrator.Config{Pool: central, Catalog: tenants})
	if err != nil {
		return nil, err
	}
	schedules, err := schedule.New(schedule.Config{Pool: central, Catalog: tenants})
	return &application{db: central, client: client, schedules: schedules}, err
}

// Transfer asks that a part of one brand's budget is moved to another brand of
// the same tenant. It is a kind of the application's own.
type Transfer struct {
	From   int   `json:"from"` // brand_id
	To     int   `json:"to"`
	Points int64 `json:"points"`
}

// Kind names it in the queue, for ever.
func (Transfer) Kind() string { return "transfer" }

const (
	takeBudget = `UPDATE brands SET budget = budget - $1 WHERE brand_id = $2 AND budget >= $1`
	giveBudget = `UPDATE brands SET budget = budget + $1 WHERE brand_id = $2`
	noteMove   = `INSERT INTO budget_moves (org_id, job_uid, from_brand, to_brand, points) VALUES ($1, $2, $3, $4, $5)`
)

// transfer does the job, in one transaction of the tenant's own database, which
// Headgate commits once. Every tenant has a brand 1, and in a shared database
// they all are in this table: no statement says which organisation it means,
// and row-level security lets each see its own only.
func transfer(ctx context.Context, tx pgx.Tx, job *jobs.Job[Transfer]) error {
	move := job.Args
	took, err := tx.Exec(ctx, takeBudget, move.Points, move.From)
	if err != nil {
		return fmt.Errorf("taking from brand %d: %w", move.From, err)
	}
	gave, err := tx.Exec(ctx, giveBudget, move.Points, move.To)
	if err != nil {
		return fmt.Errorf("giving to brand %d: %w", move.To, err)
	}
	if took.RowsAffected() != 1 || gave.RowsAffected() != 1 {
		return jobs.Cancel(fmt.Errorf("brand %d has no %d points to give to brand %d", move.From, move.Points, move.To))
	}
	if _, err := tx.Exec(ctx, noteMove, job.Tenant.OrgID, job.UID, move.From, move.To, move.Points); err != nil {
		return fmt.Errorf("noting the move: %w", err)
	}
	job.Result.Rows = 3
	return nil
}

// applicationSchema is what the application keeps in the central database.
const applicationSchema = `
CREATE TABLE transfer_requests (
    job_uid      uuid PRIMARY KEY,
    tenant       text NOT NULL,
    points       bigint NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now()
)`

const insertRequest = `INSERT INTO transfer_requests (job_uid, tenant, points) VALUES ($1, $2, $3)`

// requestTransfer is what a button does: the application's own row and the job
// are there together or not at all.
func (a *application) requestTransfer(ctx context.Context, tenant string, move Transfer) error {
	return pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		job, err := a.client.EnqueueTx(ctx, tx, tenant, move, nil)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertRequest, job.UID, tenant, move.Points)
		return err
	})
}

const brandsQuery = `
SELECT b.name AS brand, b.budget, count(t) AS tasks,
       count(t) FILTER (WHERE t.status <> 'done') AS unfinished,
       coalesce(sum(t.points) FILTER (WHERE t.status <> 'done'), 0) AS points_left,
       max(t.created_at)::date AS newest
FROM brands b LEFT JOIN tasks t USING (org_brand_id)
GROUP BY b.org_brand_id, b.name, b.budget
ORDER BY b.name`

const unfinishedQuery = `
SELECT b.name AS brand, t.title, t.assignee, t.status, t.points, t.created_at::date AS since
FROM tasks t JOIN brands b USING (org_brand_id)
WHERE t.status <> 'done'
ORDER BY t.created_at`

// The built-in kinds need no code but their arguments.
var (
	brandsReport     = report.Args{Name: "brands", Query: brandsQuery}
	unfinishedReport = report.Args{Name: "unfinished", Query: unfinishedQuery}
	purgeOldTasks    = maintenance.Purge{Table: "tasks", Column: "done_at", OlderThan: "180d"}
	analyze          = maintenance.Analyze{}
)

// requestUpkeep asks for a report and a purge for each tenant and for fresh
// statistics in each database, all or none, in one go.
func (a *application) requestUpkeep(ctx context.Context, tenants, databases []string) error {
	var params []jobs.EnqueueParams
	for _, tenant := range tenants {
		params = append(params,
			jobs.EnqueueParams{Tenant: tenant, Args: brandsReport},
			jobs.EnqueueParams{Tenant: tenant, Args: purgeOldTasks})
	}
	for _, database := range databases {
		params = append(params, jobs.EnqueueParams{Database: database, Args: analyze})
	}
	_, err := a.client.EnqueueMany(ctx, params)
	return err
}

// habits are the schedules that customers choose from. They are in the
// customer's own time zone, as the catalog knows it.
var habits = []schedule.Params{
	{Name: "nightly-purge", Args: purgeOldTasks, Spec: schedule.Spec{Cron: "30 2 * * *"}},
	{Name: "monday-brands", Args: brandsReport, Spec: schedule.Spec{Cron: "0 7 * * 1"}},
	{Name: "workday-unfinished", Args: unfinishedReport, Spec: schedule.Spec{Cron: "45 8 * * 1-5"}},
	{Name: "quarterly-brands", Args: brandsReport, Spec: schedule.Spec{Cron: "0 6 1 1,4,7,10 *"}},
}

// schedule gives a tenant one of the habits.
func (a *application) schedule(ctx context.Context, tenant string, habit schedule.Params) (schedule.Schedule, error) {
	habit.Tenant = tenant
	return a.schedules.Create(ctx, habit)
}
