package cli

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

// DryRun is the flag of a command whose change of the central database is one transaction.
// With the flag the transaction does all of the change, and is undone: checks, triggers and
// constraints have had their say, and no row and no notification remains.
type DryRun struct{ on bool }

// DryRunUsage is what help says of --dry-run.
const DryRunUsage = "show what would change, and change nothing"

// Flag adds --dry-run.
func (d *DryRun) Flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.on, "dry-run", false, DryRunUsage)
}

// On reports that the flag is given.
func (d *DryRun) On() bool { return d.on }

// Do runs the change in one transaction, which a dry run undoes.
func (d *DryRun) Do(ctx context.Context, central Central, change func(tx pgx.Tx) error) error {
	return central.Catalog.Try(ctx, d.on, change)
}

// Say says of a dry run that nothing was changed, and how many would be: "51 tenants", or ""
// where there is no number. It stands behind what the command prints.
func (d *DryRun) Say(app *App, concerned string) {
	switch {
	case !d.on:
	case concerned == "":
		SayDryRun(app, "")
	default:
		SayDryRun(app, " of "+concerned)
	}
}

// SayDryRun is what every dry run of a change says of itself. more goes on with the sentence,
// or is "".
func SayDryRun(app *App, more string) { app.Say("nothing was changed: a dry run%s", more) }

// Next says what comes next. A dry run has done nothing that a next step could rest on, and
// says nothing.
func (d *DryRun) Next(app *App, format string, args ...any) {
	if !d.on {
		app.Say("next: "+format, args...)
	}
}
