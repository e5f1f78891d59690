package worker_test

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// SendMail is the arguments of a kind whose effect is outside Postgres.
type SendMail struct {
	To string `json:"to"`
}

func (SendMail) Kind() string { return "send-mail" }

// A kind whose effect is elsewhere opens no tenant database. Such an effect happens at least
// once, so the job's UID goes along as its key.
func Example_withoutAConnection() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "acme-db")
	sent := map[string]string{} // the mail service, which knows its keys
	env.Work(nil, func(w *worker.Worker) {
		worker.NoConn(w, func(_ context.Context, job *jobs.Job[SendMail]) error {
			sent[job.UID] = job.Args.To
			job.Result.Output = "to " + job.Args.To + " of " + job.Tenant.Slug
			return nil
		})
	})

	outcome := env.Run("acme", SendMail{To: "ines@acme.example"})
	fmt.Println(outcome.State, outcome.Result.Output, len(sent))
	// Output:
	// succeeded to ines@acme.example of acme 1
}
