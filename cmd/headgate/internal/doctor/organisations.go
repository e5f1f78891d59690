package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/tenancy"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// selectOrganisations are the tables of organisations that schedules of a database keep: the
// arguments of three at most, which bounds what is compared.
const selectOrganisations = `
SELECT DISTINCT s.args::text FROM headgate.schedules s WHERE s.database_id = $1 AND s.kind = $2 ORDER BY 1 LIMIT 3`

// limitComparison bounds the look at a table that is locked, or large.
const limitComparison = `SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '5s'`

// organisations compares the application's tables of organisations with the catalog, as the
// job of the schedule would, and writes nothing. conn is the owner login's.
func (d *doctor) organisations(ctx context.Context, c *catalog.Catalog, conn *pgx.Conn, db catalog.Database) {
	note := d.on("database " + db.Name)
	rows, _ := d.pool.Query(ctx, selectOrganisations, db.ID, tenancy.Organisations{}.Kind()) // its error is CollectRows' too
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		note(StateFail, "organisations", "see that its login may read the tables of schema headgate", "could not look: %v", err)
		return
	}
	for _, text := range all {
		var args tenancy.Organisations
		if err := json.Unmarshal([]byte(text), &args); err != nil {
			continue // the schedule fails, and says so
		}
		says, err := compared(ctx, c, conn, args)
		switch snoozed := (*jobs.SnoozeError)(nil); {
		case errors.As(err, &snoozed):
			note(StateOK, "organisations", "", "a job keeps table %s at this moment", args.Table)
		case err != nil:
			note(StateWarn, "organisations", "see what the error says, and run `headgate doctor` again", "table %s could not be compared with the catalog: %v", args.Table, err)
		case says != "":
			note(StateWarn, "organisations", "`headgate job enqueue headgate.organisations --database "+db.Name+" --args "+writing(args)+"`; rows too many stay unless the arguments say remove",
				"table %s differs from the catalog: %s", args.Table, says)
		default:
			note(StateOK, "organisations", "", "table %s is as the catalog", args.Table)
		}
	}
}

func compared(ctx context.Context, c *catalog.Catalog, conn *pgx.Conn, args tenancy.Organisations) (says string, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, limitComparison); err != nil {
			return fmt.Errorf("stating the limits: %w", err)
		}
		says, err = tenancy.Compare(ctx, tx, args, kinds.Organisations(c))
		return err
	})
	return says, err
}

// writing are the arguments that correct the table, as a shell takes them.
func writing(args tenancy.Organisations) string {
	args.ReportOnly = false
	text, err := json.Marshal(args)
	if err != nil {
		return "'{}'" // no argument is of a type that JSON has not
	}
	return jobs.ShellWord(string(text))
}
