package catalogcmd

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const waitingUse = "what becomes of its waiting jobs: hold (they wait until it is active again) or cancel"

var waitings = []string{string(catalog.HoldWaiting), string(catalog.CancelWaiting)}

const tenantSuspendLong = `Let no work start for tenants until they are resumed. Requests for work are
refused, with the reason. Jobs that run end as they would. Waiting jobs wait, or
are cancelled with --waiting cancel. Schedules go on, and answer "suspended"
instead of firing.

` + selectedNow

const tenantArchiveLong = `Take tenants out of use and keep them: as suspend, and selectors select them no
more. ` + "`headgate tenant resume`" + ` brings them back. Their names stay theirs.

` + selectedNow

const tenantResumeLong = `Make suspended, archived or new tenants active. Their waiting jobs start. An
archived tenant is named: no expression selects an archived tenant.

` + selectedNow

func tenantSuspend(app *cli.App) *cobra.Command {
	return statusVerb(app, catalog.Suspended, "", &cobra.Command{
		Use: "suspend SLUG... | --select EXPR [--reason TEXT]", Short: "Let no work start for tenants until they are resumed", Long: tenantSuspendLong,
		Example: "  headgate tenant suspend acme --reason 'invoice 4711 is open'\n  headgate tenant suspend -l 'label.trial = ended' --reason 'the trial is over' --dry-run",
	})
}

func tenantArchive(app *cli.App) *cobra.Command {
	return statusVerb(app, catalog.Archived, catalog.CancelWaiting, &cobra.Command{
		Use: "archive SLUG... | --select EXPR [--reason TEXT]", Short: "Take tenants out of use and keep them", Long: tenantArchiveLong,
	})
}

func tenantResume(app *cli.App) *cobra.Command {
	return statusVerb(app, catalog.Active, "", &cobra.Command{
		Use: "resume SLUG... | --select EXPR", Short: "Make suspended, archived or new tenants active", Long: tenantResumeLong,
	})
}

func statusVerb(app *cli.App, to catalog.Status, waiting catalog.Waiting, cmd *cobra.Command) *cobra.Command {
	b := bulk{app: app}
	given := string(waiting)
	var reason string
	cmd.Args = b.args
	if to != catalog.Active {
		b.after = sayWaiting
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if given != "" {
			if err := cli.OneOf("--waiting", given, waitings); err != nil {
				return err
			}
		}
		return b.run(ctx, args, func(central cli.Central, who whom) ([]catalog.Changed, error) {
			return who.setStatus(ctx, central, catalog.StatusChange{To: to, Reason: reason, Waiting: catalog.Waiting(given)})
		})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why: whoever asks for work is told, and the audit")
	if to != catalog.Active {
		cmd.Flags().StringVar(&given, "waiting", given, waitingUse)
		cli.Complete(cmd, "waiting", waitings)
	}
	b.flags(cmd)
	return cmd
}

// sayWaiting says what becomes of the jobs of tenants that take no work from now on.
func sayWaiting(ctx context.Context, app *cli.App, central cli.Central, dry bool, changed []catalog.Changed) error {
	ids := make([]string, len(changed))
	for i, ch := range changed {
		ids[i] = ch.After.ID
	}
	counts, err := central.Client.Unended(ctx, ids)
	if err != nil {
		return err
	}
	held, cancelled, running := 0, 0, 0
	for _, ch := range changed {
		n := counts[ch.After.ID]
		running += n.Running
		if ch.After.Waiting == catalog.CancelWaiting {
			cancelled += n.Waiting + n.Scheduled
		} else {
			held += n.Waiting + n.Scheduled
		}
	}
	if held > 0 {
		app.Say("waiting and scheduled: %s, held until `headgate tenant resume`", jobs.Count(held, "job"))
	}
	switch {
	case cancelled > 0 && dry:
		app.Say("waiting and scheduled: %s, which would be cancelled", jobs.Count(cancelled, "job"))
	case cancelled > 0:
		app.Say("waiting and scheduled: %s, which `headgate serve` cancels", jobs.Count(cancelled, "job"))
	}
	if running > 0 {
		app.Say("%s", runOn(running))
	}
	return nil
}

const tenantRemoveLong = `Take tenants out for good. Their slugs, domains, e-mail domains, own schedules,
limits and pauses go, and their waiting jobs are cancelled. Jobs that run end as
they would.

Their UUIDs, org_ids and names stay for history, and no other tenant is given
them ever: rows that bear them remain in their databases, and a new customer would
be shown them. ` + "`headgate tenant erase`" + ` deletes those rows.`

// removalView is a removal with the jobs that are cancelled with it, and those that run on.
type removalView struct {
	catalog.Removal
	jobs.Unended
}

var removalColumns = []cli.Column[removalView]{
	{Name: "slug", Of: func(r removalView) any { return r.Tenant.Slug }},
	{Name: "org_id", Of: func(r removalView) any { return r.Tenant.OrgID }},
	{Name: "database", Of: func(r removalView) any { return r.Tenant.Database }},
	{Name: "domains", Of: func(r removalView) any { return r.Domains }},
	{Name: "email_domains", Of: func(r removalView) any { return r.Emails }},
	{Name: "schedules", Of: func(r removalView) any { return r.Schedules }},
	{Name: "limits", Of: func(r removalView) any { return r.Limits }},
	{Name: "pauses", Of: func(r removalView) any { return r.Pauses }},
	{Name: "blackouts", Of: func(r removalView) any { return r.Blackouts }},
	{Name: "waiting_jobs", Of: func(r removalView) any { return r.Waiting }},
	{Name: "scheduled_jobs", Of: func(r removalView) any { return r.Scheduled }},
	{Name: "overrides", Of: func(r removalView) any { return r.Overrides }},
}

// removalLine are the columns of a table, in which one sentence says what goes along.
var removalLine = append(slices.Clone(removalColumns[:3]), cli.Column[removalView]{Name: "goes_along", Of: goesAlong})

func goesAlong(r removalView) any {
	var all []string
	for _, c := range removalColumns[3:] {
		if n, _ := c.Of(r).(int); n > 0 {
			all = append(all, jobs.Count(n, strings.TrimSuffix(strings.ReplaceAll(c.Name, "_", " "), "s")))
		}
	}
	return all
}

func tenantRemove(app *cli.App) *cobra.Command {
	var opts catalog.RemoveOpts
	var yes bool
	cmd := &cobra.Command{
		Use: "remove SLUG... --yes", Short: "Take tenants out for good; rows in their databases remain", Long: tenantRemoveLong, Args: someTenants,
		Example: "  headgate tenant remove acme --dry-run\n  headgate tenant remove acme --reason 'contract ended' --yes",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if !yes && !opts.DryRun {
			return cli.Usagef("a removal cannot be undone: look at it with --dry-run, and pass --yes")
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			removals, err := central.Catalog.Editor().Remove(ctx, args, &opts)
			if err != nil {
				return nearTenant(ctx, central, args, err)
			}
			views, running, err := withJobs(ctx, central, removals)
			if err != nil {
				return err
			}
			if opts.DryRun {
				cli.SayDryRun(app, "; this would go along")
			} else {
				app.Say("rows of org_id %s remain in database %s; %s deletes them", someNumbers(removals), someDatabases(removals), eraseCommands(removals))
			}
			if running > 0 {
				app.Say("%s", runOn(running))
			}
			if app.Output == "table" {
				return cli.List(app, views, "", removalLine)
			}
			return cli.List(app, views, "", removalColumns)
		})
	})
	cmd.Flags().StringVar(&opts.Reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "only say what would go along")
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, for good")
	return cmd
}

// withJobs adds what becomes of the tenants' jobs, and how many of all of them run.
func withJobs(ctx context.Context, central cli.Central, removals []catalog.Removal) (views []removalView, running int, err error) {
	ids := make([]string, len(removals))
	for i, r := range removals {
		ids[i] = r.Tenant.ID
	}
	counts, err := central.Client.Unended(ctx, ids)
	if err != nil {
		return nil, 0, err
	}
	for _, r := range removals {
		views = append(views, removalView{r, counts[r.Tenant.ID]})
		running += counts[r.Tenant.ID].Running
	}
	return views, running, nil
}

func runOn(running int) string {
	if running == 1 {
		return "1 job runs, and ends as it would"
	}
	return jobs.Count(running, "job") + " run, and end as they would"
}

func someNumbers(removals []catalog.Removal) string {
	var all []string
	for _, r := range removals {
		all = append(all, r.Tenant.OrgKey)
	}
	return shortList(all)
}

// eraseCommands are what deletes the rows, as they are typed.
func eraseCommands(removals []catalog.Removal) string {
	var all []string
	for _, r := range removals {
		all = append(all, "`headgate tenant erase "+r.Tenant.ID+" --yes`")
	}
	return shortList(all)
}

func someDatabases(removals []catalog.Removal) string {
	var all []string
	seen := map[string]bool{}
	for _, r := range removals {
		if !seen[r.Tenant.Database] {
			seen[r.Tenant.Database] = true
			all = append(all, r.Tenant.Database)
		}
	}
	return shortList(all)
}

// shortList is the first ten of a list.
func shortList(all []string) string {
	const most = 10
	if len(all) > most {
		return strings.Join(all[:most], ", ") + ", …"
	}
	return strings.Join(all, ", ")
}
