package workcmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/explain"
)

const tenantExplainLong = `Say what waits and runs of a tenant, and what stops it: paused by whom, suspended,
limits, its server's budget and breaker; what is held, and why; else its share. The
answer comes from the rows by which workers claim, and from the queue.

In JSON each fact has a code that does not change; the sentences may.`

var tenantWorkColumns = []cli.Column[explain.TenantWork]{
	{Name: "queue", Of: func(w explain.TenantWork) any { return w.Queue }},
	{Name: "kind", Of: func(w explain.TenantWork) any { return w.Kind }},
	{Name: "waiting", Of: func(w explain.TenantWork) any { return countTo1000(w.Waiting) }},
	{Name: "running", Of: func(w explain.TenantWork) any { return w.Running }},
	{Name: "held", Of: func(w explain.TenantWork) any { return countTo1000(w.Held) }},
	{Name: "failed", Of: func(w explain.TenantWork) any { return countTo1000(w.Failed) }},
	{Name: "scheduled", Of: func(w explain.TenantWork) any { return countTo1000(w.Scheduled) }},
	{Name: "before", Of: func(w explain.TenantWork) any { return countTo1000(w.Before) }},
	{Name: "until", Of: func(w explain.TenantWork) any { return w.Until }},
}

func countTo1000(n int) string {
	if n >= 1000 {
		return "1,000+"
	}
	return fmt.Sprint(n)
}

// TenantExplain is the verb tenant explain.
func TenantExplain(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "explain TENANT", Short: "Say what waits and runs of a tenant, and what stops it", Long: tenantExplainLong, Args: cli.Args("TENANT"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				explained, err := central.Explain.ExplainTenant(ctx, args[0])
				if err != nil {
					return cli.Near(ctx, central.Admission, admission.OfTenant, args[0], err)
				}
				return showTenant(app, explained)
			})
		}),
	}
}

func showTenant(app *cli.App, e explain.TenantExplanation) error {
	switch app.Output {
	case "json":
		return app.JSON(e)
	case "jsonl":
		return cli.JSONLines(app, []explain.TenantExplanation{e})
	case "csv":
		return cli.CSV(app, e.Facts, cli.FactColumns)
	}
	if err := app.Print("%s  %s  plan %s", e.Tenant, e.Status, app.Cell(e.Plan)); err != nil {
		return err
	}
	if len(e.Work) > 0 {
		if err := app.Print(""); err != nil {
			return err
		}
		if err := cli.Table(app, e.Work, tenantWorkColumns); err != nil {
			return err
		}
	}
	if err := app.Print(""); err != nil {
		return err
	}
	return cli.Facts(app, e.Facts, "nothing stops it")
}

const explainLong = `Say why a job is not running, or what became of it: what stops it, in the order in
which that must pass, since when and until when where that is known, and what can
be done. The answer comes from the rows by which workers claim. What runs is what
the workers held at their last claims.

In JSON each fact has a code that does not change; the sentences may.`

func jobExplain(app *cli.App) *cobra.Command {
	return onJob(app, "explain", "Say why a job is not running, or what became of it", explainLong,
		func(ctx context.Context, central cli.Central, name string) (explain.Explanation, error) {
			return central.Explain.Explain(ctx, name)
		},
		func(explained explain.Explanation) error {
			if app.Output != "table" {
				return cli.List(app, explained.Facts, "", cli.FactColumns)
			}
			if err := app.Print("%s  %s  %s\n", explained.Job.UID, app.Cell(explained.Job.Kind), explained.Job.State); err != nil {
				return err
			}
			return cli.Facts(app, explained.Facts, "nothing holds it")
		})
}
