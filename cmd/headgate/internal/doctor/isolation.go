package doctor

import (
	"cmp"
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// selectUncallable are those of Headgate's functions that a job login needs ($1) and may
// not call.
const selectUncallable = `
SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_proc p
WHERE p.pronamespace OPERATOR(pg_catalog.=) 'headgate'::pg_catalog.regnamespace AND p.proname OPERATOR(pg_catalog.=) ANY ($1) AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
ORDER BY 1`

// callable says which of Headgate's functions the job login may not call.
func (d *doctor) callable(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	rows, _ := conn.Query(ctx, selectUncallable, migrations.JobFunctions) // its error is CollectRows' too
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		d.on("database "+db.Name)(StateFail, "functions", "", "could not look: %v", err)
	case len(missing) > 0:
		d.on("database "+db.Name)(StateFail, "functions", "have an administrator run there: GRANT EXECUTE ON FUNCTION "+strings.Join(missing, ", ")+" TO headgate_job",
			"the job login may not call %s of Headgate's: jobs wait, class not_permitted", jobs.Count(len(missing), "function"))
	}
}

// mostFindings is how many findings about isolation doctor tells of one database.
const mostFindings = 5

// isolation says whether one tenant's job could reach another tenant's rows.
func (d *doctor) isolation(ctx context.Context, conn *pgx.Conn, db catalog.Database) {
	note, dedicated := d.on("database "+db.Name), db.Kind == catalog.KindDedicated
	report, err := protection.Inspect(ctx, conn, protection.Options{Dedicated: dedicated, Database: db.Name})
	if err != nil {
		note(StateFail, "isolation", "see that the job login may read the catalogs, and run `headgate doctor` again", "could not look: %v", err)
		return
	}
	if !dedicated && db.Protection == catalog.ProtectionObserved {
		note(StateWarn, "isolation", "when nothing is open: `headgate database set "+db.Name+" --protection enforce`",
			"its protection is only observed, since %s by %s: %s", cli.Stamp(db.ProtectionSince), cli.Quote(*cmp.Or(db.ProtectionBy, new(string))), *db.ProtectionReason)
	}
	states := map[protection.Level]string{protection.Open: StateFail, protection.Note: StateWarn}
	for i, f := range report.Findings {
		if i == mostFindings {
			note(states[f.Level], "isolation", "`headgate database protect "+db.Name+"` lists all", "%s", jobs.Count(len(report.Findings)-i, "more finding"))
			break
		}
		note(states[f.Level], "isolation", f.Next, "%s", f.Says)
	}
	switch {
	case len(report.Findings) > 0:
	case dedicated:
		note(StateOK, "isolation", "", "the job login is no superuser and has no right on Headgate's own tables; the database has one tenant")
	default:
		note(StateOK, "isolation", "", "tables, views and sequences that the job login may touch: %d, all guarded or declared", report.Relations)
	}
}
