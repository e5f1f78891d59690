package protection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/session"
)

// Beginner begins transactions. A *pgx.Conn and a pool are Beginners.
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// Options say how to look. The zero value looks at a shared database as the login of the
// session.
type Options struct {
	// Dedicated says that the database has one tenant: what matters in a shared one only
	// is left out. Tables that are declared to keep the tenant's brands apart are looked at.
	Dedicated bool

	// Database is the database's name in the catalog, for the commands that findings
	// name. "" stands for a placeholder.
	Database string

	// Login is the login that is judged. "" means the session's own. Another one may be
	// given by the owner, who reads headgate.protected.
	Login string
}

// Level says what a finding means.
type Level string

const (
	// Open: a job may reach rows of another tenant, or of another brand than its own in a table
	// that is declared to keep brands apart, or nobody can tell.
	Open Level = "open"
	// Note: nothing is open now, and somebody should know.
	Note Level = "note"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Level  Level  `json:"level"`
	Code   string `json:"code"`   // stable, such as unguarded or definer_function
	Object string `json:"object"` // schema.name of a relation or function; a role, schema or setting else
	Says   string `json:"says"`   // one sentence
	Next   string `json:"next"`   // a statement of SQL, or a command of headgate in backticks, that mends it
}

// Report is the answer of [Inspect].
type Report struct {
	Login       string    `json:"login"`
	Fingerprint string    `json:"-"`        // as the session's login sees it, from before the look; "" with Options.Login
	Findings    []Finding `json:"findings"` // open ones first, then by code and object
	Relations   int       `json:"relations"`
}

// Open returns the findings that mean that rows may be open.
func (r Report) Open() []Finding {
	end := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Level != Open })
	if end < 0 {
		end = len(r.Findings)
	}
	return r.Findings[:end:end]
}

// localPath makes Postgres write all names in expressions in full, except its own. The queries
// are long and their answers short, so that compiling them would take most of the time.
const localPath = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('quote_all_identifiers', 'off', true), pg_catalog.set_config('jit', 'off', true)`

// Inspect looks at everything by which a job login could reach rows, in one read-only
// transaction of some ten queries and with no more than the login's own rights. A transaction
// of its own makes it fit for a pooler in transaction mode.
//
// An error means that it could not look; it says nothing about the database then.
func Inspect(ctx context.Context, conn Beginner, opts Options) (report Report, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: session.BeginReadOnly})
	if err != nil {
		return report, fmt.Errorf("looking at what the job login may do: %w", err)
	}
	defer func() { err = errors.Join(err, rollback(ctx, tx)) }()
	servers, err := enter(ctx, tx)
	if err != nil {
		return report, err
	}
	if opts.Login == "" {
		if report.Fingerprint, err = fingerprint(ctx, tx); err != nil {
			return report, err
		}
	}
	found, err := look(ctx, tx, opts, servers, []uint32{})
	if err != nil {
		return Report{}, err
	}
	report.Login, report.Relations, report.Findings = found.login.name, found.touchable(), found.judge(opts)
	return report, nil
}

// rollback ends a transaction that has changed nothing, or is to change nothing.
func rollback(ctx context.Context, tx pgx.Tx) error {
	if err := tx.Rollback(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("ending the look: %w", err)
	}
	return nil
}

// state is all that is known of a database, as one login meets it.
type state struct {
	login     login
	roles     []role
	relations map[string]*relation // by schema.name
	functions []function
	doors     []door
	declared  declarations
	absent    []declaredKind // declared tables that are not found
	strays    []stray        // tables with policies of ours that are declared under no name of theirs
	own       []ownRight
	spaces    []space
	defaults  []defaultRight
	assumed   map[string]bool // tables that a plan will guard
	space     appSpace
	database  string // its name in the catalog
}

// enter changes the search_path for the rest of a transaction, and returns the server's own.
// What runs before it runs under the path of the login, and names everything in full.
func enter(ctx context.Context, tx pgx.Tx) (servers string, err error) {
	if err := tx.QueryRow(ctx, selectServersPath).Scan(&servers); err != nil {
		return "", fmt.Errorf("asking for the server's search_path: %w", err)
	}
	if _, err := tx.Exec(ctx, localPath); err != nil {
		return "", fmt.Errorf("setting the look's search_path: %w", err)
	}
	return servers, nil
}

// look reads the state, with the relations that are asked for, in a transaction that has
// entered. servers is the server's own search_path.
func look(ctx context.Context, tx pgx.Tx, opts Options, servers string, asked []uint32) (s *state, err error) {
	s = &state{assumed: map[string]bool{}, database: cmp.Or(opts.Database, "NAME")}
	if s.login, s.roles, err = readLogin(ctx, tx, opts.Login); err != nil {
		return nil, err
	}
	if s.declared, err = readDeclarations(ctx, tx); err != nil {
		return nil, err
	}
	if s.absent, err = readAbsent(ctx, tx); err != nil {
		return nil, err
	}
	if s.strays, err = collect[stray](ctx, tx, "tables with Headgate's policies", selectStrays); err != nil {
		return nil, err
	}
	if s.own, err = readOwnRights(ctx, tx, s.login); err != nil {
		return nil, err
	}
	if opts.Dedicated {
		if s.declared.haveBrands() {
			s.relations, err = readRelations(ctx, tx, s.login, asked)
		}
		return s, err
	}
	if err := tx.QueryRow(ctx, selectAppSchema, s.login.oid, servers).Scan(&s.space.usable, &s.space.path); err != nil {
		return nil, fmt.Errorf("looking for schema %s: %w", AppSchema, err)
	}
	shown, err := s.declaredTables(ctx, tx)
	if err != nil {
		return nil, err
	}
	if s.relations, err = readRelations(ctx, tx, s.login, append(shown, asked...)); err != nil {
		return nil, err
	}
	if s.functions, err = readFunctions(ctx, tx, s.login, s.relations); err != nil {
		return nil, err
	}
	if s.doors, err = readDoors(ctx, tx, s.login); err != nil {
		return nil, err
	}
	if s.spaces, err = readSpaces(ctx, tx, s.login); err != nil {
		return nil, err
	}
	s.defaults, err = readDefaults(ctx, tx, s.login)
	return s, err
}

// touchable is how many relations the login has a right on.
func (s *state) touchable() (n int) {
	for _, r := range s.relations {
		if r.has().any() {
			n++
		}
	}
	return n
}

// selectDeclaredTables finds what stands behind the views of ours, where the login has no right.
const selectDeclaredTables = `
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.format('%I.%I', n.nspname, c.relname) = ANY ($1)`

func (s *state) declaredTables(ctx context.Context, tx pgx.Tx) ([]uint32, error) {
	names := []string{}
	for name, d := range s.declared {
		if d.Mode == modeView {
			names = append(names, name)
		}
	}
	rows, _ := tx.Query(ctx, selectDeclaredTables, names) // its error is CollectRows' too
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("looking for the tables behind the views: %w", err)
	}
	return oids, nil
}

// judge makes findings of the state.
func (s *state) judge(opts Options) (all []Finding) {
	all = slices.Concat(s.judgeLogin(opts.Dedicated), s.judgeOwn(), s.judgeAbsent())
	if opts.Dedicated && !s.login.all() {
		for _, r := range s.relations {
			all = append(all, s.judgeBrands(r)...)
		}
	}
	if !opts.Dedicated && !s.login.all() { // nothing more can be said of who may do everything
		for _, r := range s.relations {
			all = append(all, s.judgeRelation(r)...)
		}
		all = append(all, s.judgeFunctions()...)
		all = append(all, s.judgeDoors()...)
		all = append(all, s.judgeSpaces()...)
		all = append(all, s.judgeDefaults()...)
		all = append(all, s.judgeShown()...)
	}
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(-strings.Compare(string(a.Level), string(b.Level)), strings.Compare(a.Code, b.Code), strings.Compare(a.Object, b.Object), strings.Compare(a.Says, b.Says))
	})
	return slices.Compact(all)
}

// collect runs a query and takes its rows, by position, into structs of exported fields.
func collect[T any](ctx context.Context, tx pgx.Tx, what, sql string, args ...any) ([]T, error) {
	rows, _ := tx.Query(ctx, sql, args...) // its error is CollectRows' too
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", what, err)
	}
	return all, nil
}
