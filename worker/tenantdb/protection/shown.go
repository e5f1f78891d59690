package protection

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
)

// appSchema plans the schema of our views, and that unqualified names reach them.
func (p *planner) appSchema() {
	if p.pathed {
		return
	}
	p.pathed = true
	if !p.space.usable {
		p.do("", "CREATE SCHEMA IF NOT EXISTS %s", AppSchema)
		p.do("", "GRANT USAGE ON SCHEMA %s TO %s", AppSchema, jobGroup)
	}
	if p.space.first() {
		return
	}
	p.plan.Path = &Statement{SQL: fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET search_path = %s, %s", p.login.name, p.dbname, AppSchema, p.space.path), As: p.login.name}
}

// appSpace is the schema of our views, and how a session of the job login finds it.
type appSpace struct {
	usable bool   // jobs may use it
	path   string // the search_path that the session begins with
}

// first says whether a name without a schema is looked for there first.
func (a appSpace) first() bool {
	begin, _, _ := strings.Cut(a.path, ",")
	return strings.Trim(begin, ` "`) == AppSchema
}

// selectServersPath is the server's own search_path, as long as nothing has set another one
// in this session. Its operators are written in full, because it runs before the look's own
// search_path is set.
const selectServersPath = `
SELECT coalesce((SELECT t.reset_val FROM pg_catalog.pg_settings t
                  WHERE t.name OPERATOR(pg_catalog.=) 'search_path' AND t.source OPERATOR(pg_catalog.=) ANY ('{default,configuration file}'::pg_catalog.text[])),
                '"$user", public')`

// selectAppSchema reads whether jobs may use the schema, and the search_path that a session of
// the login $1 begins with: the role's in this database, the role's, the database's, or the
// server's ($2).
const selectAppSchema = `
SELECT coalesce((SELECT pg_catalog.has_schema_privilege('headgate_job', n.oid, 'USAGE') FROM pg_catalog.pg_namespace n WHERE n.nspname = 'headgate_app'), false),
       coalesce((SELECT pg_catalog.substr(c, 13) FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS c
                  WHERE c LIKE 'search\_path=%' AND s.setrole IN (0, $1) AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
                  ORDER BY s.setrole <> 0 AND s.setdatabase <> 0 DESC, s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1),
                $2::text)`

// shown plans that jobs reach a relation through a view of ours only. The relation itself is
// left as it is.
func (p *planner) shown(ctx context.Context, r *relation, t Table) error {
	if r.Partition {
		return refuse("%s is a partition: protect the table that it is a partition of", r.Name)
	}
	if r.Kind == "v" {
		return refuse("%s is a view: `headgate database protect %s --view %s` gives jobs a copy of it", r.Name, p.state.database, jobs.ShellWord(r.Name))
	}
	if brand := p.declared[r.Name].Brand; brand != "" {
		return refuse("jobs of a brand meet its rows of %s only, by column %s, and a view would show them all brands: guard it by policy, or take the declaration back first with --withdraw %s", r.Name, brand, jobs.ShellWord(r.Name))
	}
	c, d, err := p.conditionOf(ctx, r, t, true)
	if err != nil {
		return err
	}
	d.Mode, d.ShownBy = modeView, AppSchema+"."+r.Short
	if err := p.free(ctx, d); err != nil {
		return err
	}
	p.appSchema()
	want, err := p.wantedThrough(r, t)
	if err != nil {
		return err
	}
	p.instead(r, d.Mode)
	as := p.as(r)
	if slices.Contains(r.Holders, jobGroup) {
		p.do(as, "REVOKE ALL ON %s FROM %s", r.Name, jobGroup)
	}
	p.lend(r, as, want)
	check := ""
	if slices.Contains(want, "INSERT") || slices.Contains(want, "UPDATE") {
		check = " WITH CASCADED CHECK OPTION"
	}
	p.do("", "DROP VIEW IF EXISTS %s", d.ShownBy)
	p.do("", "CREATE VIEW %s WITH (security_barrier = true) AS SELECT %s FROM %s WHERE %s%s", d.ShownBy, strings.Join(r.Columns, ", "), r.Name, c.using, check)
	p.do("", "GRANT %s ON %s TO %s", strings.Join(want, ", "), d.ShownBy, jobGroup)
	if slices.Contains(want, "INSERT") {
		for _, sequence := range p.tables[r.Name].Sequences {
			p.do(as, "GRANT USAGE ON SEQUENCE %s TO %s", sequence, jobGroup)
		}
	}
	p.plan.objects = append(p.plan.objects, d.ShownBy)
	p.declare(d)
	return p.index(ctx, r, c.using)
}

// free refuses a name in our schema that is taken.
func (p *planner) free(ctx context.Context, d declaration) error {
	if slices.Contains(p.plan.objects, d.ShownBy) {
		return refuse("%s would show two relations: two of one name cannot both be reached without their schema", d.ShownBy)
	}
	if other, taken := p.declared.shown(d.ShownBy); taken {
		if other.Object != d.Object {
			return refuse("%s shows %s already: two relations of one name cannot both be reached without their schema", d.ShownBy, other.Object)
		}
		return nil
	}
	var there bool
	if err := p.tx.QueryRow(ctx, selectTaken, d.ShownBy).Scan(&there); err != nil {
		return fmt.Errorf("looking for %s: %w", d.ShownBy, err)
	}
	if there && !slices.Contains(p.gone, d.ShownBy) {
		return refuse("there is a %s already that Headgate has not made: give it another name, or drop it", d.ShownBy)
	}
	return nil
}

const selectTaken = `SELECT pg_catalog.to_regclass($1) IS NOT NULL`

// wantedThrough are the rights that jobs are to have on a view of ours. They never may
// both insert and update, because INSERT … ON CONFLICT DO UPDATE asks no view which row it
// meets.
func (p *planner) wantedThrough(r *relation, t Table) ([]string, error) {
	want := p.wanted(r, t)
	switch both := slices.Contains(want, "INSERT") && slices.Contains(want, "UPDATE"); {
	case r.Kind == "m":
		return []string{"SELECT"}, nil
	case both && len(t.Grant) > 0:
		return nil, refuse("%s: through a view jobs may insert or update, and not both, because INSERT … ON CONFLICT DO UPDATE would reach other tenants' rows: leave out one of the two, or guard the table by policy", r.Name)
	case both:
		p.note("jobs may not UPDATE %s: with INSERT they could reach other tenants' rows through a view (ON CONFLICT DO UPDATE); --grant select,update,delete gives them UPDATE instead", r.Name)
		return slices.DeleteFunc(want, func(w string) bool { return w == "UPDATE" }), nil
	}
	return want, nil
}

// lend plans that the owner login has the rights that a view of its own passes on.
func (p *planner) lend(r *relation, as string, want []string) {
	fact := p.tables[r.Name]
	if !slices.Contains(fact.Held, "USAGE") {
		p.do(fact.SpaceAs, "GRANT USAGE ON SCHEMA %s TO %s", r.Schema, p.user)
	}
	if slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(fact.Held, w) }) {
		p.do(as, "GRANT %s ON %s TO %s", strings.Join(want, ", "), r.Name, p.user)
	}
}

// copyView plans a copy of a view of the application's that reads with the reader's rights.
func (p *planner) copyView(ctx context.Context, r *relation) error {
	switch {
	case r.Kind == "m":
		return refuse("%s is a materialized view, which has no rights of its reader: take --table %s --by view", r.Name, jobs.ShellWord(r.Name))
	case r.Kind != "v":
		return refuse("%s is not a view: name it with --table", r.Name)
	case p.version < 150000:
		return refuse("a view with its reader's rights needs Postgres 15 or newer, and the server is older: give jobs the tables behind %s", r.Name)
	case r.Invoker:
		p.grant(r, r.Name, p.as(r), []string{"SELECT"})
		return nil
	}
	for _, behind := range p.tables[r.Name].Reads {
		b := p.relations[behind]
		if p.assumed[behind] || p.declared.is(behind, modePublic) || b != nil && b.as[p.login.group].Select && !slices.ContainsFunc(p.judgeRelation(b), func(f Finding) bool { return f.Level == Open }) {
			continue
		}
		if p.declared.is(behind, modeView) {
			return refuse("view %s reads %s, which jobs reach through a view only, so that a copy would be refused: protect the table by policy, or write a view over %s.%s", r.Name, behind, AppSchema, shortOf(behind))
		}
		if b != nil && b.Kind == "v" {
			return refuse("view %s reads view %s, and a copy would read that with its owner's rights no more: make %s WITH (security_invoker = true), GRANT SELECT on it TO %s, and run the command again", r.Name, behind, behind, jobGroup)
		}
		return refuse("view %s reads %s, which jobs may not read under a guard of its own: protect that first, or name both", r.Name, behind)
	}
	d := declaration{Object: r.Name, Mode: modeCopy, ShownBy: AppSchema + "." + r.Short}
	if err := p.free(ctx, d); err != nil {
		return err
	}
	p.appSchema()
	var body string
	if err := p.tx.QueryRow(ctx, selectViewBody, r.OID).Scan(&body); err != nil {
		return fmt.Errorf("reading view %s: %w", r.Name, err)
	}
	if slices.Contains(r.Holders, jobGroup) {
		p.do(p.as(r), "REVOKE ALL ON %s FROM %s", r.Name, jobGroup)
	}
	p.do("", "DROP VIEW IF EXISTS %s", d.ShownBy)
	p.do("", "CREATE VIEW %s WITH (security_invoker = true) AS %s", d.ShownBy, strings.TrimSuffix(strings.TrimSpace(body), ";"))
	p.do("", "GRANT SELECT ON %s TO %s", d.ShownBy, jobGroup)
	p.plan.objects = append(p.plan.objects, d.ShownBy)
	p.declare(d)
	return nil
}

// selectViewBody reads a view with all names in full.
const selectViewBody = `SELECT pg_catalog.pg_get_viewdef($1::oid)`
