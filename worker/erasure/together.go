package erasure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// mostTries is how many rows of a table are tried that too many rows refer to.
const mostTries = 20

var (
	errTooMany = errors.New("more rows refer to each other than go together")
	errChanged = errors.New("the table's triggers, rules or foreign keys change meanwhile")
	errKept    = errors.New("a trigger keeps a row")
)

// together deletes rows that refer to each other. A set of rows goes in one statement, at
// whose end Postgres looks at the foreign keys, and only where every row that refers to one
// of them is one of them.
func (e *eraser) together(ctx context.Context) (gone int64, err error) {
	byOID, reach := e.reach()
	e.bad = map[place]bool{}
	for i := range e.told.left {
		l := byOID[e.told.left[i].OID]
		for _, p := range l.parts {
			if !slices.Contains(reach[l.OID], l.OID) || e.untouchable(p) != "" || p.Code != "" {
				continue
			}
			for more, w := true, (&way{}); more; {
				var found, some int64
				err := e.batches(ctx, l.table, p, w, func(places []string) (more bool, err error) {
					n, err := e.set(ctx, l, p, places)
					found, some = found+int64(len(places)), some+n
					return l.tried < mostTries && !l.changed, err
				})
				gone += some
				if said := refusal(err); said != "" {
					l.why = said
				} else if err != nil {
					return gone, fmt.Errorf("deleting rows of %s together: %w", l.Name, err)
				}
				more = err == nil && found == int64(e.cfg.Page) && some > 0
			}
		}
	}
	return gone, nil
}

// set deletes rows with all that refer to them. Where the rows are too many, or the database
// refuses one, it does each half by itself.
func (e *eraser) set(ctx context.Context, l *leftOf, p part, places []string) (gone int64, err error) {
	if len(places) == 1 && e.bad[place{p.OID, places[0]}] || l.tried >= mostTries {
		return 0, nil
	}
	w := &web{e: e, index: map[place]int{}, held: map[uint32]bool{}}
	err = e.inTx(ctx, func(tx pgx.Tx) error {
		w.tx = tx
		if err := w.grow(ctx, p.OID, places); err != nil {
			return err
		}
		return w.remove(ctx)
	})
	said := refusal(err)
	switch {
	case err == nil:
		for name, n := range w.gone {
			e.told.add(name, n)
			gone += n
		}
		return gone, nil
	case errors.Is(err, errChanged):
		l.changed = true
		return 0, nil
	case waited(err): // the next set would wait as long
		l.why, l.tried = said, mostTries
		return 0, nil
	case said == "" && !errors.Is(err, errTooMany) && !errors.Is(err, errKept):
		return 0, err
	case len(places) > 1:
		if gone, err = e.set(ctx, l, p, places[:len(places)/2]); err != nil {
			return gone, err
		}
		more, err := e.set(ctx, l, p, places[len(places)/2:])
		return gone + more, err
	}
	w.blame()
	switch {
	case errors.Is(err, errTooMany):
		l.tried++
	case said == "":
		l.kept++
	default:
		l.refused, l.why = l.refused+1, said
	}
	return 0, nil
}

// waited says whether a wait has ended, that of a lock or that of a statement, or a table must
// not be named.
func waited(err error) bool {
	var said *pgconn.PgError
	return refused(err) || errors.As(err, &said) && (said.Code == "55P03" || said.Code == "57014")
}

// place is where a row is.
type place struct {
	part uint32
	ctid string
}

// web is a set of rows, and which of them refer to which.
type web struct {
	e  *eraser
	tx pgx.Tx

	places  []place
	index   map[place]int
	refers  [][]int // to these rows a row refers
	blocked []bool  // it stays, or nobody knows
	held    map[uint32]bool
	gone    map[string]int64 // by table
}

func (w *web) add(at place) (n int, added bool) {
	if n, known := w.index[at]; known {
		return n, false
	}
	w.index[at] = len(w.places)
	w.places, w.refers, w.blocked = append(w.places, at), append(w.refers, nil), append(w.blocked, w.e.bad[at])
	return len(w.places) - 1, true
}

// grow adds rows, and what refers to them, and so on. A row is locked before what refers to
// it is looked for: nobody adds a reference to a locked row, and what was added before is seen.
func (w *web) grow(ctx context.Context, oid uint32, seeds []string) error {
	ahead := map[uint32][]string{}
	for _, ctid := range seeds {
		if n, _ := w.add(place{oid, ctid}); !w.blocked[n] {
			ahead[oid] = append(ahead[oid], ctid)
		}
	}
	for len(ahead) > 0 {
		next := map[uint32][]string{}
		for oid, ctids := range ahead {
			t, p := w.e.plan.part(oid)
			free, err := w.lock(ctx, t, p, ctids)
			if err != nil {
				return err
			}
			for _, r := range t.references {
				if err := w.referring(ctx, p, r, free, next); err != nil {
					return err
				}
			}
		}
		ahead = next
	}
	return nil
}

// lock locks rows of a part, and returns those that nobody else has locked and that are the
// tenant's.
func (w *web) lock(ctx context.Context, t *table, p part, ctids []string) ([]string, error) {
	if !w.held[p.OID] {
		changed, err := w.e.hold(ctx, w.tx, t, p)
		if err != nil {
			return nil, err
		}
		if changed {
			return nil, errChanged
		}
		w.held[p.OID] = true
	}
	rows, _ := w.tx.Query(ctx, fmt.Sprintf("SELECT t.ctid::text FROM ONLY %s t WHERE t.ctid = ANY ($1::text[]::tid[]) AND %s FOR UPDATE OF t SKIP LOCKED", p.Name, w.e.plan.condition(t)), ctids)
	free, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, ctid := range ctids {
		w.blocked[w.index[place{p.OID, ctid}]] = true
	}
	for _, ctid := range free {
		w.blocked[w.index[place{p.OID, ctid}]] = false
	}
	return free, nil
}

// referring adds the rows that refer to some rows by a foreign key. A row that is not the
// tenant's, or that this job may not delete, blocks what it refers to.
func (w *web) referring(ctx context.Context, p part, r reference, ctids []string, next map[uint32][]string) error {
	if !r.Visible {
		for _, ctid := range ctids {
			w.blocked[w.index[place{p.OID, ctid}]] = true
		}
		return nil
	}
	mine := "false"
	if from := w.e.plan.byOID[r.From]; from != nil {
		mine = "(" + w.e.plan.conditionAs(from, "c", 0) + ") IS TRUE"
	}
	rows, err := w.tx.Query(ctx, fmt.Sprintf("SELECT t.ctid::text, c.tableoid, c.ctid::text, %s FROM ONLY %s t JOIN %s c ON %s WHERE t.ctid = ANY ($1::text[]::tid[]) AND NOT (c.tableoid = t.tableoid AND c.ctid = t.ctid) LIMIT %d",
		mine, p.Name, r.Table, r.On, w.e.cfg.Circle+1), ctids)
	if err != nil {
		return err
	}
	var to string
	var from place
	var own bool
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&to, &from.part, &from.ctid, &own}, func() error {
		if n++; n > w.e.cfg.Circle || len(w.places) > w.e.cfg.Circle {
			return errTooMany
		}
		target := w.index[place{p.OID, to}]
		t, part := w.e.plan.part(from.part)
		if !own || t == nil || part.Code != "" || w.e.untouchable(part) != "" {
			w.blocked[target] = true
			return nil
		}
		referrer, added := w.add(from)
		if w.refers[referrer] = append(w.refers[referrer], target); added && !w.blocked[referrer] {
			next[from.part] = append(next[from.part], from.ctid)
		}
		return nil
	})
	return err
}

// blame notes that the first row cannot go, nor what it refers to.
func (w *web) blame() {
	for ahead := []int{0}; len(ahead) > 0; ahead = ahead[1:] {
		if at := w.places[ahead[0]]; !w.e.bad[at] {
			w.e.bad[at] = true
			ahead = append(ahead, w.refers[ahead[0]]...)
		}
	}
}

// remove deletes the rows that no row refers to which stays. All of them go in one statement.
func (w *web) remove(ctx context.Context) error {
	var stay []int
	for n, blocked := range w.blocked {
		if blocked {
			stay = append(stay, n)
		}
	}
	for ; len(stay) > 0; stay = stay[1:] {
		for _, n := range w.refers[stay[0]] {
			if !w.blocked[n] {
				w.blocked[n] = true
				stay = append(stay, n)
			}
		}
	}
	ctids := map[uint32][]string{}
	for n, at := range w.places {
		if !w.blocked[n] {
			ctids[at.part] = append(ctids[at.part], at.ctid)
		}
	}
	w.gone = map[string]int64{}
	if len(ctids) == 0 {
		return nil
	}
	var with, counts []string
	var all, deleted, refused int64
	for oid, these := range ctids {
		t, p := w.e.plan.part(oid)
		with = append(with, fmt.Sprintf(`d%d AS (DELETE FROM ONLY %s t WHERE t.ctid = ANY ('{"%s"}'::tid[]) RETURNING 1)`, len(with), p.Name, strings.Join(these, `","`)))
		counts = append(counts, fmt.Sprintf("SELECT FROM d%d", len(counts)))
		w.gone[t.Name] += int64(len(these))
		all += int64(len(these))
	}
	said := pgconn.PgError{}
	sql := "WITH " + strings.Join(with, ", ") + " " + strings.Join(counts, " UNION ALL ")
	err := w.tx.QueryRow(ctx, deleteApart, sql, []string{""}).Scan(&deleted, &refused, &said.Code, &said.ConstraintName)
	switch {
	case err != nil:
		return err
	case said.Code == "23503" || said.Code == "23001" || refused == 0 && deleted != all:
		return errKept // every row that refers to them was among them
	case refused > 0:
		return &said
	}
	return nil
}
