package keycmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// longCommand bounds what goes over all sealed values.
const longCommand = time.Hour

const keyRekeyLong = `Seal every value anew that another key than the ring's first has sealed. Jobs go on
meanwhile, and so may every other command: a value that somebody has just replaced is
left as it is, and a row that somebody holds locked is tried again at the end.

What is done stays done, so an interrupted command is run again and goes on. A value
that cannot be opened stops nothing: it is named at the end, and the exit code is 1.`

var rekeyedColumns = []cli.Column[catalog.Rekeyed]{
	{Name: "key", Of: func(r catalog.Rekeyed) any { return r.Key }},
	{Name: "values", Of: func(r catalog.Rekeyed) any { return r.Values }},
	{Name: "sealed", Of: func(r catalog.Rekeyed) any { return r.Sealed }},
	{Name: "failed", Of: func(r catalog.Rekeyed) any { return r.Failed }},
	{Name: "locked", Of: func(r catalog.Rekeyed) any { return r.Locked }},
}

func keyRekey(app *cli.App) *cobra.Command {
	var params catalog.RekeyParams
	limit := longCommand
	cmd := &cobra.Command{
		Use: "rekey", Short: "Seal everything anew with the ring's first key", Long: keyRekeyLong, Args: cli.Args(),
		RunE: cli.Within(&limit, "; what is done stays done: run it again", func(ctx context.Context, _ []string) error {
			ring, err := app.Keys()
			if err != nil {
				return err
			}
			params.Progress = progress(app)
			return app.Open(ctx, ring, func(central cli.Central) error {
				result, err := catalog.NewKeys(central.Pool, ring).Rekey(ctx, params)
				if err != nil {
					return err
				}
				return tellRekeyed(app, result)
			})
		}),
	}
	cmd.Flags().BoolVar(&params.DryRun, "dry-run", false, "only open what would be sealed anew, and count it")
	cli.DurationIn(cmd.Flags(), &params.Patience, "wait", 30*time.Second, time.Millisecond, 0, "how long rows that others hold locked are tried again")
	namesFlag(cmd, &params.Names)
	return cmd
}

// progress tells how far it has come, each second at most.
func progress(app *cli.App) func(catalog.Rekeyed) {
	told := time.Now()
	return func(r catalog.Rekeyed) {
		if time.Since(told) >= time.Second {
			told = time.Now()
			app.Say("sealed with %s: %d of %s", r.Key, r.Sealed, jobs.Count(r.Values, "value"))
		}
	}
}

func tellRekeyed(app *cli.App, r catalog.Rekeyed) error {
	tellBad(app, r.Bad, r.Failed+r.Locked)
	if err := cli.One(app, r, rekeyedColumns); err != nil {
		return err
	}
	switch {
	case r.Failed > 0:
		return fmt.Errorf("%s cannot be sealed with %s: add the key that sealed what does not open to the ring and run the command again, or store the addresses again with `headgate database login --key-lost`", jobs.Count(r.Failed, "value"), r.Key)
	case r.Locked > 0:
		return fmt.Errorf("%s in rows that others hold locked: end their transactions, which `headgate doctor` names, and run the command again", jobs.CountVerb(r.Locked, "value", "is", "are"))
	case r.DryRun:
		cli.SayDryRun(app, "")
	default:
		app.Say("everything is sealed with %s", r.Key)
		app.Say("next: `headgate key list` shows which keys seal nothing any more, and `headgate key retire ID` retires one")
	}
	return nil
}
