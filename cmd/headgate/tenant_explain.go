package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

const tenantExplainLong = `Say what waits and runs of a tenant, and what stops it: paused by whom, suspended,
limits, its server's budget and breaker; else its share. The answer comes from the
rows by which workers claim, so what no worker has looked for yet is not in it.

In JSON each fact has a code that does not change; the sentences may.`

var tenantWorkColumns = []column[orchestrator.TenantWork]{
	{"queue", func(w orchestrator.TenantWork) any { return w.Queue }},
	{"kind", func(w orchestrator.TenantWork) any { return w.Kind }},
	{"waiting", func(w orchestrator.TenantWork) any { return countTo1000(w.Waiting) }},
	{"running", func(w orchestrator.TenantWork) any { return w.Running }},
	{"before", func(w orchestrator.TenantWork) any { return countTo1000(w.Before) }},
	{"until", func(w orchestrator.TenantWork) any { return w.Until }},
}

func countTo1000(n int) string {
	if n >= 1000 {
		return "1,000+"
	}
	return fmt.Sprint(n)
}

func (p *program) tenantExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain TENANT", Short: "Say what waits and runs of a tenant, and what stops it", Long: tenantExplainLong, Args: names("TENANT"),
		RunE: brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				explained, err := r.client.ExplainTenant(ctx, args[0])
				if err != nil {
					return near(ctx, r.client, orchestrator.OfTenant, args[0], err)
				}
				return p.showTenant(explained)
			})
		}),
	}
}

func (p *program) showTenant(e orchestrator.TenantExplanation) error {
	switch p.output {
	case "json":
		return p.json(e)
	case "jsonl":
		return jsonLines(p, []orchestrator.TenantExplanation{e})
	case "csv":
		return csvRows(p, e.Facts, factColumns)
	}
	if err := p.print("%s  %s  plan %s", e.Tenant, e.Status, orDash(e.Plan)); err != nil {
		return err
	}
	if len(e.Work) > 0 {
		if err := p.print(""); err != nil {
			return err
		}
		if err := tableRows(p, e.Work, tenantWorkColumns); err != nil {
			return err
		}
	}
	if err := p.print(""); err != nil {
		return err
	}
	return list(p, e.Facts, "nothing stops it", factTable)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
