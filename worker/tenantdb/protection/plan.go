package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/session"
)

// Statement is one statement of a plan.
type Statement struct {
	SQL string `json:"sql"` // without a semicolon at its end
	As  string `json:"as"`  // who must run it: "" for the owner login of the catalog, else a role or the job login
}

// Harm is what the application may notice.
type Harm struct {
	Code  string   `json:"code"` // copy_from, dump, plans, subscription, row_security_off, later_roles, lock
	Table string   `json:"table"`
	Roles []string `json:"roles,omitempty"`
	Says  string   `json:"says"`
	Cure  string   `json:"cure"`
}

// Plan is what protecting would do.
type Plan struct {
	// Before is what the owner login must run before another role can run its part.
	Before []Statement `json:"before,omitempty"`

	Statements []Statement `json:"statements"`
	Harms      []Harm      `json:"harms"`
	Notes      []string    `json:"notes"` // worth knowing, about jobs and not about the application

	// Path is set if views of ours are made: the job login's search_path is to begin with
	// their schema. The job login itself may run the statement.
	Path *Statement `json:"path,omitempty"`

	objects []string // what the request is about, as findings name it
}

// Foreign are the roles other than the owner login that must run statements.
func (p Plan) Foreign() (roles []string) {
	for _, s := range p.Statements {
		if s.As != "" && !slices.Contains(roles, s.As) {
			roles = append(roles, s.As)
		}
	}
	return roles
}

// Script is the whole plan for psql, in an order in which each role's part stands together.
// The parts of other roles come first, because the owner login's part looks at them.
func (p Plan) Script() string {
	var b strings.Builder
	for _, h := range p.Harms {
		fmt.Fprintf(&b, "-- %s: %s\n--   cure: %s\n", h.Table, h.Says, h.Cure)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "-- note: %s\n", n)
	}
	part(&b, "", p.Before)
	for _, role := range append(p.Foreign(), "") {
		part(&b, role, p.of(role))
	}
	if p.Path != nil {
		fmt.Fprintf(&b, "-- as the job login, or an administrator:\n%s;\n", p.Path.SQL)
	}
	return b.String()
}

// part writes what one role must run, as one transaction.
func part(b *strings.Builder, role string, statements []Statement) {
	if len(statements) == 0 {
		return
	}
	who := "the owner login"
	if role != "" {
		who = "role " + role
	}
	fmt.Fprintf(b, "-- as %s:\nBEGIN;\nSET LOCAL lock_timeout = '%s';\n", who, lockTimeout)
	for _, s := range statements {
		b.WriteString(s.SQL + ";\n")
	}
	b.WriteString("COMMIT;\n")
}

func (p Plan) of(role string) (part []Statement) {
	for _, s := range p.Statements {
		if s.As == role {
			part = append(part, s)
		}
	}
	return part
}

// lockTimeout bounds how long a plan's statements wait for a table, and so how long others
// wait behind them.
const lockTimeout = "2s"

// MakePlan says what protecting would do, and changes nothing. conn is the owner login's. A
// request that cannot be meant is a *[RequestError].
func MakePlan(ctx context.Context, conn Beginner, req Request) (plan Plan, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: session.BeginReadOnly})
	if err != nil {
		return plan, fmt.Errorf("planning: %w", err)
	}
	defer func() { err = errors.Join(err, rollback(ctx, tx)) }()
	return makePlan(ctx, tx, req)
}

// planner makes a plan.
type planner struct {
	*facts

	req    Request
	plan   Plan
	tx     pgx.Tx
	pathed bool     // the schema of our views is planned
	gone   []string // views of ours that are dropped
}

func makePlan(ctx context.Context, tx pgx.Tx, req Request) (Plan, error) {
	if err := req.check(); err != nil {
		return Plan{}, err
	}
	f, names, err := gather(ctx, tx, req)
	if err != nil {
		return Plan{}, err
	}
	p := &planner{facts: f, req: req, tx: tx, plan: Plan{Statements: []Statement{}, Harms: []Harm{}, Notes: []string{}, objects: names}}
	for i, t := range req.Tables {
		if r := f.relations[names[i]]; !t.Public && t.By != ByView && r.isTable() {
			f.assumed[r.Name] = true
		}
	}
	for i, t := range req.Tables {
		if err := p.table(ctx, f.relations[names[i]], t); err != nil {
			return Plan{}, err
		}
	}
	for i := range req.Views {
		if err := p.copyView(ctx, f.relations[names[len(req.Tables)+i]]); err != nil {
			return Plan{}, err
		}
	}
	functions := len(req.Tables) + len(req.Views)
	for _, name := range names[functions : functions+len(req.Functions)] {
		p.declare(declaration{Object: name, Mode: modeFunction})
	}
	for i, name := range names[functions+len(req.Functions):] {
		if slices.Contains(names[:functions+len(req.Functions)+i], name) {
			return Plan{}, refuse("%s is to be declared and withdrawn, or withdrawn twice: say one thing of it", name)
		}
		if err := p.withdraw(name, names[functions+len(req.Functions):]); err != nil {
			return Plan{}, err
		}
	}
	if len(req.Tables)+len(req.Views) > 0 && !req.Dedicated { // to trust a function says nothing of tables
		p.revokeOpen(slices.Concat(p.plan.objects, p.gone))
	}
	return p.plan, nil
}

// do adds a statement, once.
func (p *planner) do(as, sql string, args ...any) {
	if s := (Statement{SQL: fmt.Sprintf(sql, args...), As: as}); !slices.Contains(p.plan.Statements, s) {
		p.plan.Statements = append(p.plan.Statements, s)
	}
}

func (p *planner) note(says string, args ...any) {
	p.plan.Notes = append(p.plan.Notes, fmt.Sprintf(says, args...))
}

// literal writes a text as SQL; "" is NULL.
func literal(s string) string {
	if s == "" {
		return "NULL"
	}
	return quoted(s)
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// declare adds the row of headgate.protected, which the owner of schema headgate writes.
func (p *planner) declare(d declaration) {
	if p.declared[d.Object] == d && p.req.Reason == "" {
		return
	}
	p.do("", "INSERT INTO headgate.protected AS p (object, mode, org_column, through, shown_by, brand_column, actor, reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "+
		"ON CONFLICT (object) DO UPDATE SET mode = excluded.mode, org_column = excluded.org_column, through = excluded.through, shown_by = excluded.shown_by, brand_column = excluded.brand_column, "+
		"actor = excluded.actor, reason = excluded.reason, declared_at = now()",
		literal(d.Object), literal(d.Mode), literal(d.Column), literal(d.Through), literal(d.ShownBy), literal(d.Brand), quoted(p.req.Actor), quoted(p.req.Reason))
}

// table plans for one table.
func (p *planner) table(ctx context.Context, r *relation, t Table) error {
	if r.Kind == "S" {
		return refuse("%s is a sequence: it comes with the table that draws from it", r.Name)
	}
	if r.Schema == "headgate" || r.Schema == AppSchema || strings.HasPrefix(r.Schema, "pg_") {
		return refuse("%s is not a table of the application's", r.Name)
	}
	switch {
	case t.Public:
		return p.public(r)
	case t.By == ByView:
		return p.shown(ctx, r, t)
	case r.Kind == "v":
		return refuse("%s is a view: `headgate database protect %s --view %s` gives jobs a copy of it with their own rights, or declare it public", r.Name, p.state.database, jobs.ShellWord(r.Name))
	case !r.isTable():
		return refuse("%s is a %s, which has no row-level security: take --by view, or declare it public", r.Name, r.kindName())
	case r.Partition:
		return refuse("%s is a partition: protect the table that it is a partition of, by whose name jobs reach its rows", r.Name)
	case r.Owned:
		return refuse("table %s belongs to %s, which the job login is a member of, so that no policy holds it: give it another owner, or the database another job login", r.Name, r.Owner)
	}
	return p.policies(ctx, r, t)
}

// public plans for a table that belongs to no tenant.
func (p *planner) public(r *relation) error {
	if r.Partition {
		return refuse("%s is a partition: declare the table that it is a partition of", r.Name)
	}
	if heirs := p.privateHeirs(r); len(heirs) > 0 {
		return refuse("whoever reads %s reads %s too, which inherits from it: declare these public first, if every tenant may read them", r.Name, strings.Join(heirs, ", "))
	}
	p.instead(r, modePublic)
	if column := p.orgColumn(r); column != "" {
		p.note("%s has a column %s, and is declared public: every tenant's jobs read all of its rows", r.Name, column)
	}
	p.grant(r, r.Name, p.as(r), []string{"SELECT"})
	p.declare(declaration{Object: r.Name, Mode: modePublic})
	return nil
}

// grant plans that jobs have these rights on a relation, and no others by their group.
func (p *planner) grant(r *relation, on, as string, want []string) {
	fact := p.tables[r.Name]
	var beyond []string
	for _, has := range fact.GroupHas {
		if !slices.Contains(want, has) {
			beyond = append(beyond, has)
		}
	}
	if len(beyond) > 0 && on == r.Name {
		p.do(as, "REVOKE %s ON %s FROM %s", strings.Join(beyond, ", "), on, jobGroup)
	}
	if !fact.Space {
		p.do(fact.SpaceAs, "GRANT USAGE ON SCHEMA %s TO %s", r.Schema, jobGroup)
	}
	if on != r.Name || slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(fact.GroupHas, w) }) {
		p.do(as, "GRANT %s ON %s TO %s", strings.Join(want, ", "), on, jobGroup)
	}
	if slices.Contains(want, "INSERT") {
		for _, sequence := range fact.Sequences {
			p.do(as, "GRANT USAGE ON SEQUENCE %s TO %s", sequence, jobGroup)
		}
	}
}

// wanted are the rights that jobs are to have on a table that is guarded.
func (p *planner) wanted(r *relation, t Table) (want []string) {
	grants := t.Grant
	if len(grants) == 0 {
		for _, has := range p.present(r) {
			if lower := strings.ToLower(has); slices.Contains(grantable, lower) {
				grants = append(grants, lower)
			}
		}
	}
	if len(grants) == 0 {
		grants = grantable
	}
	for _, g := range grantable {
		if slices.Contains(grants, g) {
			want = append(want, strings.ToUpper(g))
		}
	}
	return want
}

// present are the rights that jobs have already on a relation that is declared, or in a
// dedicated database.
func (p *planner) present(r *relation) []string {
	declared, ok := p.declared[r.Name]
	switch view := p.relations[declared.ShownBy]; {
	case declared.Mode == modePublic: // who may only read it is not meant
		return nil
	case ok && view != nil:
		return view.as[p.login.group].names()
	case ok, p.req.Dedicated: // jobs have rights there before anything is declared
		return p.tables[r.Name].GroupHas
	}
	return nil
}

// instead plans that what an earlier declaration of a relation has made goes, where the new
// one is of another mode.
func (p *planner) instead(r *relation, mode string) {
	old := p.declared[r.Name]
	if old.ShownBy != "" && mode != modeView {
		p.do("", "DROP VIEW IF EXISTS %s", old.ShownBy)
		p.gone = append(p.gone, old.ShownBy)
	}
	if (old.Mode == modePolicy || old.Mode == modeThrough) && (mode == modeView || mode == modePublic) {
		p.dropPolicies(r, p.as(r))
	}
}

// revokeOpen takes from the group what is neither guarded nor declared, nor asked for.
func (p *planner) revokeOpen(asked []string) {
	var names []string
	for name := range p.relations {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r := p.relations[name]
		_, declared := p.declared[name]
		if _, shown := p.declared.shown(name); declared || shown || slices.Contains(asked, name) || !slices.Contains(r.Holders, jobGroup) {
			continue
		}
		if slices.ContainsFunc(p.judgeRelation(r), func(f Finding) bool { return f.Level == Open }) {
			on := name
			if r.Kind == "S" {
				on = "SEQUENCE " + name
			}
			p.do(p.as(r), "REVOKE ALL ON %s FROM %s", on, jobGroup)
			p.note("%s is neither guarded nor declared: its rights are taken from %s", name, jobGroup)
		}
	}
}
