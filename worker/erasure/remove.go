package erasure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs/relation"
)

// left is what a pass has left of a table, and why.
type left struct {
	locked, referred, kept, refused int64
	why                             string // what the database has said, or why nothing was tried
	changed                         bool   // triggers or foreign keys are others than those of the plan
}

func (l left) any() bool { return l.locked+l.referred+l.kept+l.refused > 0 || l.why != "" }

func (l *left) add(some left) {
	l.locked, l.referred, l.kept, l.refused = l.locked+some.locked, l.referred+some.referred, l.kept+some.kept, l.refused+some.refused
	l.changed = l.changed || some.changed
	l.why = cmp.Or(some.why, l.why)
}

// remove deletes a tenant's rows of a table, part by part. An error is of the connection only:
// what the database refuses is in left.
func (e *eraser) remove(ctx context.Context, t *table) (found, deleted int64, rest left, err error) {
	for _, r := range t.references {
		if !r.Visible {
			return 0, 0, left{why: fmt.Sprintf("foreign key %s of %s refers to it, and the owner login cannot read %[2]s whole: GRANT SELECT ON %[2]s TO %s, and leave FORCE ROW LEVEL SECURITY off there", r.Name, r.Table, e.login)}, nil
		}
	}
	for _, one := range t.parts {
		some, gone, left, err := e.removePart(ctx, t, one)
		found, deleted = found+some, deleted+gone
		rest.add(left)
		if err != nil {
			return found, deleted, rest, fmt.Errorf("deleting rows of %s: %w", one.Name, err)
		}
	}
	return found, deleted, rest, nil
}

func (e *eraser) removePart(ctx context.Context, t *table, p part) (found, deleted int64, rest left, err error) {
	if why := e.untouchable(p); why != "" {
		return 0, 0, left{why: why}, nil
	}
	for w := (&way{}); ; {
		var some, gone int64
		var of left
		if p.Code == "" {
			some, gone, of, err = e.page(ctx, t, p, w)
		} else if some, err = e.any(ctx, t, p); some > 0 {
			of.why = e.runs(p)
		}
		found, deleted = found+some, deleted+gone
		if said := refusal(err); said != "" {
			if !refused(err) { // whose sentence has the name
				said = p.Name + ": " + said
			}
			rest.add(left{why: said})
			return found, deleted, rest, nil
		}
		further := w.further() != ""
		last := err != nil || some < int64(e.cfg.Page) || gone == 0 && !further
		if last || further { // else the next page finds again what is left
			rest.add(of)
		}
		if last {
			return found, deleted, rest, err
		}
	}
}

func (e *eraser) untouchable(p part) string {
	switch {
	case p.Kind != "r":
		return fmt.Sprintf("%s is no table of this server: delete the rows of org_id %d there by hand", p.Name, e.target.OrgID)
	case !p.May:
		return fmt.Sprintf("the owner login may not delete there: have %s run GRANT SELECT, UPDATE, DELETE ON %s TO %s", p.Owner, p.Name, e.login)
	case p.Hidden:
		return fmt.Sprintf("row-level security hides rows of %s from the owner login: ALTER TABLE %[1]s NO FORCE ROW LEVEL SECURITY, or make the login its owner", p.Name)
	}
	return ""
}

// runs says what keeps rows of a part. A trigger runs with the rights of who deletes, and the
// owner's reach every row and the key that signs jobs.
func (e *eraser) runs(p part) string {
	return fmt.Sprintf("%s would run with the owner login's rights: delete the rows of org_id %d in %s by the application, or trust a trigger's function with `headgate database protect %s --trusted-function NAME --reason TEXT`", p.Code, e.target.OrgID, p.Name, e.job.Database)
}

const closeCursor = `CLOSE headgate_erase`

// page deletes the rows that one look finds, up to Config.Page of them.
func (e *eraser) page(ctx context.Context, t *table, p part, w *way) (found, gone int64, rest left, err error) {
	err = e.batches(ctx, t, p, w, func(places []string) (more bool, err error) {
		n, some, err := e.batch(ctx, t, p, places)
		found, gone = found+int64(len(places)), gone+n
		rest.add(some)
		return !some.changed, err
	})
	return found, gone, rest, err
}

// batches hands the places of a tenant's rows to do, Config.Batch at a time, up to Config.Page
// of them. The look reads the table once, and keeps where the rows are on the server: a batch
// costs the same whatever was deleted before it. Rows that refer to rows of the same table are
// mostly younger than those, so that the youngest go first, and last in every second pass.
func (e *eraser) batches(ctx context.Context, t *table, p part, w *way, do func(places []string) (more bool, err error)) (err error) {
	order := ""
	if len(t.itself()) > 0 {
		order = " ORDER BY t.ctid DESC"
		if e.upward {
			order = " ORDER BY t.ctid"
		}
	}
	err = e.inTx(ctx, func(tx pgx.Tx) error {
		if err := e.lock(ctx, tx, relation.Read, t, p, nil); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf("DECLARE headgate_erase NO SCROLL CURSOR WITH HOLD FOR SELECT t.ctid::pg_catalog.text FROM ONLY %s t WHERE %s%s%s LIMIT %d", p.Name, e.plan.condition(t), w.further(), order, e.cfg.Page))
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if !e.conn.IsClosed() {
			_, closing := e.conn.Exec(ctx, closeCursor)
			err = errors.Join(err, closing)
		}
	}()
	fetch := fmt.Sprintf("FETCH FORWARD %d FROM headgate_erase", e.cfg.Batch)
	for more := true; more; {
		rows, _ := e.conn.Query(ctx, fetch) // its error is CollectRows' too
		places, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(places) == 0 {
			return err
		}
		w.pass(places)
		if more, err = do(places); err != nil {
			return err
		}
	}
	return nil
}

// batch deletes the rows at some places, in a transaction of its own. It looks for references
// in a statement after the one that locks the rows: nobody adds a reference to a locked row,
// and what was added before is seen.
func (e *eraser) batch(ctx context.Context, t *table, p part, places []string) (gone int64, rest left, err error) {
	err = e.inTx(ctx, func(tx pgx.Tx) error {
		changed, err := e.hold(ctx, tx, t, p)
		if err != nil || changed {
			rest = left{changed: changed, why: "its triggers, rules or foreign keys change meanwhile"}
			return err
		}
		rows, _ := tx.Query(ctx, fmt.Sprintf("SELECT t.ctid::text FROM ONLY %s t WHERE t.ctid = ANY ($1::text[]::tid[]) AND %s FOR UPDATE OF t SKIP LOCKED", p.Name, e.plan.condition(t)), places)
		free, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if gone, rest, err = t.removeAll(ctx, tx, t.removal(p.Name), free); err != nil {
			return err
		}
		rest.locked, rest.referred = int64(len(places)-len(free)), int64(len(free))-gone-rest.refused
		if rest.referred == 0 {
			return nil
		}
		var blocked int64
		count := fmt.Sprintf("SELECT count(*) FROM ONLY %s t WHERE t.ctid = ANY ($1::text[]::tid[]) AND NOT (%s)", p.Name, t.unreferred())
		if err := tx.QueryRow(ctx, count, free).Scan(&blocked); err != nil {
			return err
		}
		rest.kept, rest.referred = max(0, rest.referred-blocked), min(blocked, rest.referred)
		return nil
	})
	if err != nil {
		return 0, left{}, err
	}
	return gone, rest, nil
}

const deleteApart = `SELECT deleted, refused, code, key FROM headgate.delete_apart($1, $2)`

// removeAll deletes rows as long as that deletes any: a row that only another one of them
// refers to goes after that one. Once the database has refused a row of the table, rows go one
// by one, so that a bad row keeps no other one back.
func (t *table) removeAll(ctx context.Context, tx pgx.Tx, sql string, places []string) (gone int64, rest left, err error) {
	for {
		var n int64
		if !t.apart {
			err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, sql, places)
				n = tag.RowsAffected()
				return err
			})
			t.apart = refusal(err) != ""
		}
		if t.apart {
			said := pgconn.PgError{}
			err = tx.QueryRow(ctx, deleteApart, sql, places).Scan(&n, &rest.refused, &said.Code, &said.ConstraintName)
			if rest.refused > 0 {
				rest.why = refusal(&said)
			}
		}
		if err != nil {
			return 0, rest, err
		}
		if gone += n; n == 0 || gone == int64(len(places)) {
			return gone, rest, nil
		}
	}
}

// refused says whether a table must not be named with the owner's rights.
func refused(err error) bool {
	var said *relation.RefusedError
	return errors.As(err, &said)
}

// refusal is what the database has said, where that concerns one table: not the connection,
// and not the job's own end. Text that may hold values of rows is left out.
func refusal(err error) string {
	var one *relation.RefusedError
	if errors.As(err, &one) {
		return one.Why
	}
	var said *pgconn.PgError
	if !errors.As(err, &said) || strings.HasPrefix(said.Code, "57P") || strings.HasPrefix(said.Code, "08") {
		return ""
	}
	switch class := said.Code[:2]; {
	case said.Code == "55P03":
		return "another session has locked it (55P03)"
	case said.Code == "57014":
		return "its rows were not found in time: an index on the organisation's column helps (57014)"
	case class == "P0":
		return fmt.Sprintf("a trigger refused the deletion (%s)", said.Code)
	case said.ConstraintName != "":
		return fmt.Sprintf("constraint %s refused the deletion (%s)", said.ConstraintName, said.Code)
	case class == "22" || class == "23":
		return fmt.Sprintf("Postgres refused the deletion (%s)", said.Code)
	}
	return fmt.Sprintf("%s (%s)", cmp.Or(said.Message, "Postgres refused the deletion"), said.Code)
}
