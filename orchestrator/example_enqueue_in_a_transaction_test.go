package orchestrator_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/jobstest"
)

// SendInvoice is a kind of an application: its arguments and its name.
type SendInvoice struct {
	Invoice int `json:"invoice"`
}

func (SendInvoice) Kind() string { return "send-invoice" }

// A job enqueued in the application's own transaction on the central database
// exists if that transaction commits, and never otherwise.
func Example_enqueueInATransaction() {
	env, end := jobstest.Example() // a central database with a catalog; yours are your own
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	client, ctx := env.Client, context.Background()

	err := pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE invoices (id int)`); err != nil {
			return err
		}
		_, err := client.EnqueueTx(ctx, tx, "acme", SendInvoice{Invoice: 7}, nil)
		return err
	})
	fmt.Println("accepted:", err == nil)

	_, err = client.Enqueue(ctx, "acne", SendInvoice{Invoice: 8}, nil)
	fmt.Println(err)
	// Output:
	// accepted: true
	// enqueueing a job: unknown tenant: no tenant has the slug, UUID or org_id "acne"
}
