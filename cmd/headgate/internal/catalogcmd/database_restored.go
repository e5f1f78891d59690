package catalogcmd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const databaseRestoredLong = `List the jobs whose effects a tenant database has lost, because it was restored to an
earlier time, and rerun them on request.

What a job wrote and its row in the ledger are gone together; the central database
still says that the job succeeded. The command compares the two: it takes the jobs that
ended from TIME on, and asks the database's ledger which of them the database still has.
The clocks of workers and of the backup may differ, so it begins --margin before TIME.
Run it after the restored database is back in its place, and before TIME is 30 days old.

--rerun KIND and --rerun-all enqueue the lost jobs anew, each once, however often the
command is run: after an interruption run it again. What a lost job's handler asked for
with Follow comes with that job, and is not rerun by itself. Jobs whose rows have left
the queue (24 hours after their success unless a worker is set otherwise) have lost their
arguments, and are to be enqueued anew.

Tenants that were erased since TIME have their rows again: the command names each, and
tenant erase --again erases it anew.

Kinds that leave no ledger row, because they only read the database or need no
connection, are listed too. Rerun these only if their effect elsewhere is gone.`

const databaseRestoredExample = `  headgate database restored shared-1 --to 2026-11-29T14:00:00Z
  headgate database restored shared-1 --to 2026-11-29T14:00:00Z --jobs -o csv
  headgate database restored shared-1 --to 2026-11-29T14:00:00Z --rerun invoices --rerun mails --dry-run
  headgate database restored shared-1 --to 2026-11-29T14:00:00Z --rerun-all`

// restoring is one `database restored`.
type restoring struct {
	name      string
	to, until string
	margin    time.Duration
	jobs      bool
	rerun     []string
	all       bool
	dryRun    bool
	confirm   cli.Confirmation

	at time.Time // to
}

func databaseRestored(app *cli.App) *cobra.Command {
	r := restoring{confirm: cli.Confirmation{Noun: "job"}}
	cmd := &cobra.Command{
		Use:     "restored NAME --to TIME [--jobs | --rerun KIND... | --rerun-all]",
		Short:   "List the jobs whose effects a restored database lost; rerun them",
		Long:    databaseRestoredLong,
		Example: databaseRestoredExample,
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if err := cli.Required(cmd, "to"); err != nil {
			return err
		}
		if err := cli.NotZero(cmd, "to", "until"); err != nil {
			return err
		}
		r.name = args[0]
		filter, err := r.filter()
		if err != nil {
			return err
		}
		return r.run(ctx, app, filter)
	})
	f := cmd.Flags()
	f.StringVar(&r.to, "to", "", "the time whose state was restored, as in 2026-11-29T14:00:00Z")
	f.StringVar(&r.until, "until", "", "leave out the jobs that ended from this time on (default: now)")
	cli.DurationIn(f, &r.margin, "margin", time.Minute, 0, 24*time.Hour, "how far the clocks of workers and of the backup may differ, 0s to 24h")
	f.BoolVar(&r.jobs, "jobs", false, "list each job instead of each kind")
	f.StringArrayVar(&r.rerun, "rerun", nil, "rerun the lost jobs of a kind; may be repeated")
	f.BoolVar(&r.all, "rerun-all", false, "rerun the lost jobs of all kinds")
	f.BoolVar(&r.dryRun, "dry-run", false, "say how many jobs would be rerun, and rerun none")
	r.confirm.Flags(cmd)
	return cmd
}

// filter reads the times and refuses flags that contradict each other.
func (r *restoring) filter() (f jobs.SucceededFilter, err error) {
	if r.at, err = cli.TimeFlag("to", r.to); err != nil {
		return f, err
	}
	switch {
	case r.all && len(r.rerun) > 0:
		return f, cli.Usagef("--rerun-all and --rerun exclude each other: give one of them")
	case r.jobs && r.reruns():
		return f, cli.Usagef("--jobs lists and reruns nothing: give it without --rerun and --rerun-all")
	case r.dryRun && !r.reruns():
		return f, cli.Usagef("without --rerun or --rerun-all nothing is rerun: leave out --dry-run")
	}
	f = jobs.SucceededFilter{To: r.at, Margin: r.margin}
	if r.until != "" {
		f.Until, err = cli.TimeFlag("until", r.until)
	}
	return f, err
}

func (r *restoring) reruns() bool { return r.all || len(r.rerun) > 0 }

func (r *restoring) run(ctx context.Context, app *cli.App, filter jobs.SucceededFilter) error {
	ring, err := app.Keys()
	if err != nil {
		return err
	}
	return app.Open(ctx, ring, func(central cli.Central) error {
		db, err := cli.FindDatabase(ctx, central.Catalog, r.name)
		if err != nil {
			return err
		}
		filter.Database = db.ID
		lost, err := r.lost(ctx, app, central, db, filter)
		switch {
		case err != nil:
			return err
		case r.reruns():
			return r.confirm.Do(ctx, app, func() error { return r.rerunLost(ctx, app, central, db, lost) })
		case r.jobs:
			return cli.List(app, lost, "the database has all of them", lostColumns)
		}
		kinds := kindsOf(lost)
		if err := cli.List(app, kinds, "nothing is to be done: the database has all of them", lostKindColumns); err != nil {
			return err
		}
		r.sayNext(app, db.Name, kinds)
		return nil
	})
}

// mostNext bounds the kinds whose commands are told.
const mostNext = 20

// sayNext says what is to be decided of each kind.
func (r *restoring) sayNext(app *cli.App, database string, kinds []lostKind) {
	again := fmt.Sprintf("headgate database restored %s --to %s", database, r.at.UTC().Format(time.RFC3339Nano))
	if r.margin != time.Minute {
		again += " --margin " + r.margin.String()
	}
	if r.until != "" {
		again += " --until " + jobs.ShellWord(r.until)
	}
	open, gone := 0, 0
	for _, k := range kinds {
		gone += k.Gone
		if k.Left == 0 {
			continue
		}
		if open++; open <= mostNext {
			app.Say("next: is the work of %s of kind %s to be done again? `%s --rerun %s`", jobs.Count(k.Left, "job"), k.Kind, again, jobs.ShellWord(k.Kind))
		}
	}
	switch {
	case open > mostNext:
		app.Say("and %s: `%s --rerun-all` reruns all", jobs.Count(open-mostNext, "more kind"), again)
	case open > 1:
		app.Say("all kinds at once: `%s --rerun-all`", again)
	case open == 0 && len(kinds) > 0:
		app.Say("nothing is left to rerun")
	}
	if gone > 0 {
		app.Say("%s with the queue's rows: enqueue that work anew; `%s --jobs` lists each job", jobs.CountVerb(gone, "job", "has lost its arguments", "have lost their arguments"), again)
	}
}

// lost are the jobs that have succeeded and that the database knows nothing of.
func (r *restoring) lost(ctx context.Context, app *cli.App, central cli.Central, db catalog.Database, filter jobs.SucceededFilter) ([]lostJob, error) {
	succeeded, err := central.Client.Succeeded(ctx, filter)
	if err != nil {
		return nil, cli.BadValue(err)
	}
	var there map[string]bool
	if len(succeeded) > 0 {
		conn, _, err := connect(ctx, central, db, jobs.LoginOwner)
		if err != nil {
			return nil, err
		}
		defer cli.CloseConn(ctx, conn)
		if there, err = inLedger(ctx, conn, db, succeeded); err != nil {
			return nil, err
		}
	}
	if err := r.sayErased(ctx, app, central, db, filter); err != nil {
		return nil, err
	}
	lost := judge(succeeded, there, r.at)
	early := 0
	for _, j := range lost {
		if j.EndedAt.Before(r.at) {
			early++
		}
	}
	are := "are"
	if len(lost) == 1 {
		are = "is"
	}
	app.Say("%s succeeded in database %s since %s, the margin of %s included; its ledger has %d of them; %d %s lost, of which %d ended within the margin",
		jobs.CountVerb(len(succeeded), "job", "has", "have"), db.Name, cli.Stamp(r.at.Add(-r.margin)), r.margin, len(there), len(lost), are, early)
	return lost, nil
}

// sayErased names the erasures that the restored database has lost, and how each is done again.
func (r *restoring) sayErased(ctx context.Context, app *cli.App, central cli.Central, db catalog.Database, filter jobs.SucceededFilter) error {
	erased, err := central.Client.ErasedSince(ctx, db.ID, filter.To.Add(-filter.Margin))
	if err != nil || len(erased) == 0 {
		return err
	}
	list := make([]jobs.SucceededJob, len(erased))
	for i, e := range erased {
		list[i].UID = e.JobUID // of the database: its org_id in the ledger is 0
	}
	conn, _, err := connect(ctx, central, db, jobs.LoginOwner)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	there, err := inLedger(ctx, conn, db, list)
	if err != nil {
		return err
	}
	erased = slices.DeleteFunc(erased, func(e jobs.Erasure) bool { return there[e.JobUID] })
	for _, e := range erased[:min(len(erased), mostNext)] {
		app.Say("next: tenant %s (%s) was erased, and its rows are back: `headgate tenant erase %s --again --yes`", e.TenantID, cli.Quote(e.Name), e.TenantID)
	}
	if more := len(erased) - mostNext; more > 0 {
		app.Say("and %s: the command lists them when these are erased", jobs.Count(more, "more erased tenant"))
	}
	return nil
}

// chosen are the jobs to rerun: of the chosen kinds those that are not rerun yet and do not
// come with another job.
func (r *restoring) chosen(lost []lostJob) (list []lostJob, err error) {
	kinds := kindsOf(lost)
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Kind
	}
	for _, kind := range r.rerun {
		if !slices.Contains(names, kind) {
			return nil, cli.Usagef("no lost job is of kind %s%s; lost are jobs of %s", cli.Quote(kind), cli.DidYouMean(cli.Nearest(kind, names, "")...), strings.Join(names, ", "))
		}
	}
	for _, j := range lost {
		if j.Fate == fateLost && (r.all || slices.Contains(r.rerun, j.Kind)) {
			list = append(list, j)
		}
	}
	return list, nil
}

// batch is how many jobs one transaction reruns.
const batch = 100

func (r *restoring) rerunLost(ctx context.Context, app *cli.App, central cli.Central, db catalog.Database, lost []lostJob) error {
	if len(lost) == 0 {
		return cli.List(app, []rerunKind{}, "nothing is to be rerun: the database has all of them", rerunKindColumns)
	}
	list, err := r.chosen(lost)
	if err != nil {
		return err
	}
	if r.dryRun {
		cli.SayDryRun(app, "; "+jobs.Count(len(list), "job")+" would be rerun")
		return cli.List(app, plannedKinds(list), "nothing is left to rerun of these kinds", rerunKindColumns)
	}
	if err := r.confirm.Check(fmt.Sprintf("database %s has lost", db.Name))(len(list)); err != nil {
		return err
	}
	did := map[string]*rerunKind{}
	refused := 0
	for part := range slices.Chunk(list, batch) {
		uids, kind := make([]string, len(part)), map[string]string{}
		for i, j := range part {
			uids[i], kind[j.UID] = j.UID, j.Kind
		}
		results, err := central.Client.RerunOnce(ctx, uids)
		if err != nil {
			return fmt.Errorf("%w; run the same command again, it goes on where it stopped", err)
		}
		for _, result := range results {
			k := did[kind[result.UID]]
			if k == nil {
				k = &rerunKind{Kind: kind[result.UID]}
				did[k.Kind] = k
			}
			if k.count(result); result.Err != nil {
				if refused++; refused <= mostTold {
					app.Say("job %s was not rerun: %v", result.UID, result.Err)
				}
			}
		}
	}
	if err := cli.List(app, sortedKinds(did), "nothing is left to rerun of these kinds", rerunKindColumns); err != nil || refused == 0 {
		return err
	}
	were, reasons := "were", fmt.Sprintf("the first %d reasons are above: mend what they say", min(refused, mostTold))
	if refused == 1 {
		were, reasons = "was", "the reason is above: mend what it says"
	}
	return fmt.Errorf("%d of %s %s not rerun, %s and run the same command again", refused, jobs.Count(len(list), "job"), were, reasons)
}

// mostTold bounds the reasons that are told.
const mostTold = 20
