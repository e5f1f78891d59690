package catalogcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

const tenantEraseLong = `Delete the rows of a removed tenant, for good: a job of a worker deletes them
in the tenant's database, table by table, and what the central database keeps of the
tenant's jobs. UUID, org_id, name, times, counts and the audit stay.

A removed tenant is named by its UUID or org_id: another tenant may have its slug.
Tables are those that ` + "`headgate database protect`" + ` has declared. Other tables with a
column of the organisation's name are named, and not touched. --dry-run asks for a job that only counts; ` + "`headgate job show`" + ` shows what
it has counted.

The same command again says how far the erasure is. Backups are not erased.`

var erasureColumns = []cli.Column[jobs.Erasure]{
	{Name: "tenant", Of: func(e jobs.Erasure) any { return e.TenantID }},
	{Name: "org_id", Of: func(e jobs.Erasure) any { return e.OrgID }},
	{Name: "name", Of: func(e jobs.Erasure) any { return e.Name }},
	{Name: "database", Of: func(e jobs.Erasure) any { return e.Database }},
	{Name: "state", Of: func(e jobs.Erasure) any { return e.JobState }},
	{Name: "job", Of: func(e jobs.Erasure) any { return e.JobUID }},
	{Name: "waiting", Of: func(e jobs.Erasure) any { return e.Waiting }},
	{Name: "erased", Of: func(e jobs.Erasure) any { return e.DoneAt }},
}

func tenantErase(app *cli.App) *cobra.Command {
	var opts jobs.EraseOpts
	var yes bool
	cmd := &cobra.Command{
		Use: "erase UUID --yes", Short: "Delete a removed tenant's rows in its database", Long: tenantEraseLong, Args: cli.Args("UUID"),
		Example: "  headgate tenant erase 42 --dry-run\n  headgate tenant erase 42 --reason 'erasure request 17' --yes",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if !yes && !opts.CountOnly {
			return cli.Usagef("an erasure cannot be undone: look at it with --dry-run, and pass --yes")
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			erasure, err := central.Client.Erase(ctx, args[0], &opts)
			if errors.Is(err, jobs.ErrUnknownTenant) {
				return fmt.Errorf("%w; a removed tenant has no slug any more: `headgate tenant list --status removed` shows its UUID", err)
			}
			if err != nil {
				return err
			}
			sayErasure(app, erasure, opts.CountOnly)
			return cli.Upright(app, erasure, erasureColumns)
		})
	})
	cmd.Flags().StringVar(&opts.Reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&opts.CountOnly, "dry-run", false, "only have the rows counted, table by table")
	cmd.Flags().BoolVar(&opts.Again, "again", false, "erase what was erased: its database was restored, and has the rows again")
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, for good")
	return cmd
}

// sayErasure says what happens next.
func sayErasure(app *cli.App, e jobs.Erasure, counts bool) {
	show := fmt.Sprintf("`headgate job show %s`", e.JobUID)
	switch {
	case counts:
		app.Say("nothing is erased: a dry run; a worker counts the rows, and %s shows them", show)
	case e.DoneAt != nil:
		app.Say("nothing to do: the tenant is erased; --again erases what a restored database has again")
	case e.Waiting > 0:
		app.Say("a worker deletes the rows when %s ended; %s shows how far it is", jobs.CountVerb(e.Waiting, "job", "of the tenant has", "of the tenant have"), show)
	default:
		app.Say("a worker deletes the rows; %s shows how far it is", show)
	}
}
