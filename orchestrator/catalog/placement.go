package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
)

// room is what a shared database has, as the chooser counts it.
type room struct {
	id, name string
	tenants  int
	most     *int     // nil: any number
	plans    []string // nil: any
	server   string
	state    string // of the server; only one that is open takes tenants by itself
}

func (r room) takes(plan string) bool { return r.plans == nil || slices.Contains(r.plans, plan) }

func (r room) full() bool { return r.most != nil && r.tenants >= *r.most }

// roomsSQL counts the tenants of the databases to choose from. The caller holds the row that
// new tenants take turns by (reserveOrgIDs), so that nobody else chooses by the same counts;
// headgate.check_placement keeps those that do not take turns to the bounds.
const roomsSQL = `
SELECT d.id::text, d.name, coalesce(t.tenants, 0), d.max_tenants, d.plans, s.name, s.state
FROM headgate.databases d
JOIN headgate.servers s ON s.id = d.server_id
LEFT JOIN (SELECT database_id, count(*) AS tenants FROM headgate.tenants WHERE status <> 'removed' GROUP BY database_id) t ON t.database_id = d.id
WHERE d.kind = 'shared' AND d.state = 'attached'
ORDER BY d.name`

// choosePlaces gives each tenant without a database the least loaded one that takes it.
// Those that name a database count there.
func choosePlaces(ctx context.Context, tx pgx.Tx, tenants []Tenant) error {
	if !slices.ContainsFunc(tenants, func(t Tenant) bool { return t.DatabaseID == "" }) {
		return nil
	}
	var rooms []*room
	r := room{}
	rows, _ := tx.Query(ctx, roomsSQL) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&r.id, &r.name, &r.tenants, &r.most, &r.plans, &r.server, &r.state}, func() error {
		one := r
		rooms = append(rooms, &one)
		r = room{}
		return nil
	})
	if err != nil {
		return fmt.Errorf("choosing a database: %w", err)
	}
	byID := make(map[string]*room, len(rooms))
	for _, one := range rooms {
		byID[one.id] = one
	}
	for _, t := range tenants {
		if one := byID[t.DatabaseID]; one != nil {
			one.tenants++
		}
	}
	for i := range tenants {
		if t := &tenants[i]; t.DatabaseID == "" {
			one, err := leastLoaded(rooms, t.Plan)
			if err != nil {
				return err
			}
			t.DatabaseID, t.Database = one.id, one.name
			one.tenants++
		}
	}
	return nil
}

// leastLoaded is the first of the databases with the fewest tenants, or says why there is
// none.
func leastLoaded(rooms []*room, plan string) (best *room, err error) {
	var fullest, closed *room
	for _, r := range rooms {
		switch {
		case !r.takes(plan):
		case r.state != "open":
			if closed == nil && !r.full() {
				closed = r
			}
		case r.full():
			if fullest == nil || r.tenants > fullest.tenants {
				fullest = r
			}
		case best == nil || r.tenants < best.tenants:
			best = r
		}
	}
	switch {
	case best != nil:
		return best, nil
	case closed != nil:
		return nil, &sentenceError{is: ErrFull, sentence: fmt.Sprintf("database %s takes plan %q, and its server %s is %s: `headgate server resume %s` opens the server; --database %s places the tenant there all the same, and its jobs wait",
			closed.name, plan, closed.server, closed.state, closed.server, closed.name)}
	case fullest != nil:
		return nil, &sentenceError{is: ErrFull, sentence: fmt.Sprintf("every shared database that takes plan %q is full, the fullest is %s with %d of %s: `headgate database set %s --max-tenants N` raises that, `headgate database create NAME --server SERVER --kind shared` makes another",
			plan, fullest.name, fullest.tenants, jobs.Count(*fullest.most, "tenant"), fullest.name)}
	case len(rooms) > 0:
		return nil, &sentenceError{is: ErrFull, sentence: fmt.Sprintf("no shared database takes plan %q: %s, `headgate database create NAME --server SERVER --kind shared` makes another", plan, LetIn(rooms[0].name, rooms[0].plans, plan))}
	}
	return nil, &sentenceError{is: ErrFull, sentence: "there is no shared database on an open server to choose from: name a database, or `headgate database create NAME --server SERVER --kind shared` makes one"}
}

// LetIn is the command by which a database takes more plans than it takes already, as a part of
// a sentence. The list of plans is set as a whole, so that the command names those too.
func LetIn(database string, takes []string, more ...string) string {
	var flags strings.Builder
	for _, name := range append(slices.Clone(takes), more...) {
		flags.WriteString(" --plan " + jobs.ShellWord(name))
	}
	return fmt.Sprintf("`headgate database set %s%s` lets the plan in", database, flags.String())
}

// placeConflict turns a broken bound of a database into a sentence.
func placeConflict(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	switch pgErr.ConstraintName {
	case "databases_full":
		return &sentenceError{is: ErrFull, cause: err, sentence: fmt.Sprintf("%s: `headgate database set %s --max-tenants N` raises that; without a database named, the one with most room is chosen", pgErr.Message, pgErr.Detail)}
	case "databases_plans":
		return &sentenceError{is: ErrFull, cause: err, sentence: fmt.Sprintf("%s: `headgate database show %s` shows which it takes; `headgate database set %s --plan PLAN`, with --plan once for each of those too, lets a plan in", pgErr.Message, pgErr.Detail, pgErr.Detail)}
	}
	return err
}
