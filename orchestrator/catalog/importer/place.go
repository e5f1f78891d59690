package importer

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// place finds the database of a row, and returns its name. t is the tenant that the row is,
// nil for a new one, which must have a database.
func (p *planner) place(r *row, t *tenant) string {
	d, err := p.databaseOf(r, t)
	switch {
	case err != nil:
		p.refuse(r, err)
		return ""
	case d == nil: // the row does not say where its tenant lives
		return ""
	case t != nil && d.id != t.databaseID:
		p.say(r, "database: the tenant with org_id %d lives in %s, and an import moves nobody; give that one, or leave the columns out", t.orgID, p.nameOf(t))
		return ""
	case r.kind != "" && r.kind != d.kind:
		p.say(r, "db_kind: database %q is %s", d.name, d.kind)
	}
	if t != nil {
		return d.name
	}
	if d.kind == catalog.KindDedicated && (d.tenants > 0 || d.added == nil && d.line != 0 || d.added != nil && d.line != r.line) {
		p.say(r, "database: %q is dedicated and has its tenant already; give a shared one (db_kind shared where the input adds it), or another", d.name)
	}
	p.checkRoom(r, d)
	if d.line == 0 {
		d.line = r.line
	}
	return d.name
}

// mostLacking is how many plans that a database does not take are named in one sentence.
const mostLacking = 20

// checkRoom counts a new tenant where it is to live, and refuses one that the database does
// not take, as headgate.check_placement does.
func (p *planner) checkRoom(r *row, d *database) {
	d.living++
	if d.most != nil && d.living > *d.most {
		p.say(r, "database: %q takes %s, and this would be its tenant number %d; `headgate database set %s --max-tenants N` raises that, or give another", d.name, jobs.Count(*d.most, "tenant"), d.living, d.name)
	}
	if d.plans != nil && !slices.Contains(d.plans, r.plan) {
		if p.table.quiet {
			p.say(r, "plan: database %q takes no tenant of this plan%s; %s (PLAN is the plan), or give another database", d.name, notRepeated, catalog.LetIn(d.name, d.plans, "PLAN"))
			return
		}
		more := d.lacks
		if !slices.Contains(more, r.plan) {
			more = append(slices.Clip(more), r.plan)
			if len(d.lacks) < mostLacking {
				d.lacks = more
			}
		}
		p.say(r, "plan: database %q takes no tenant of plan %q; %s, or give another database", d.name, r.plan, catalog.LetIn(d.name, d.plans, more...))
	}
}

func (p *planner) nameOf(t *tenant) string {
	if d := p.databases[t.databaseID]; d != nil {
		return d.name
	}
	return "no database"
}

func (p *planner) databaseOf(r *row, t *tenant) (*database, error) {
	if r.logins != nil {
		return p.byLogins(r, t)
	}
	name := r.database
	if name == "" && t == nil {
		name = p.opts.Database
	}
	if name == "" {
		if t == nil {
			return nil, jobs.Inputf("database", "", "say where this tenant lives: in a column database, in columns of its connection, or by --database (new_tenants_in of headgate.sync)")
		}
		return nil, nil //nolint:nilnil // it stays where it is
	}
	if id, ok := fit.UUID(name); ok {
		if d := p.databases[id]; d != nil {
			return d, nil
		}
	}
	if d := p.byName[name]; d != nil {
		return d, nil
	}
	near := ""
	if !p.table.quiet {
		near = didYouMean(name, slices.Sorted(maps.Keys(p.byName)))
	}
	return nil, jobs.Inputf("database", name, "no database has this name%s; `headgate database list` shows them", near)
}

// byLogins finds the database that a row's address leads to, or makes its entry.
func (p *planner) byLogins(r *row, t *tenant) (*database, error) {
	said := *r.logins // the table stays as it was read
	server, err := p.serverOf(r.server, said.job.Host)
	if err != nil {
		return nil, err
	}
	if said.owner.User == "" && p.opts.Owner != nil {
		said.owner = p.opts.Owner.of(said.job)
	}
	if err := p.checkLogins(&said, server); err != nil {
		return nil, err
	}
	d := p.byPlace[place{server.name, said.job.Database}]
	if d == nil {
		if t != nil {
			return nil, jobs.Inputf("database", "", "the address leads to another database than %s, where the tenant with org_id %d lives, and an import moves nobody", p.nameOf(t), t.orgID)
		}
		return p.newDatabase(r, &said, server)
	}
	if d.said != nil && !d.said.same(&said, server.transport) {
		return nil, jobs.Inputf("db_user", "", "line %d gives another address for the same database", d.saidLine)
	}
	if d.said == nil {
		d.said, d.saidLine = &said, r.line
	}
	return d, nil
}

// checkLogins holds addresses to the rules of their server. A sentence about an address may
// repeat a part of it, which may be in the wrong column.
func (p *planner) checkLogins(l *logins, s *server) error {
	for _, a := range []address.Address{l.job, l.owner} {
		if a.User == "" {
			continue
		}
		if err := a.Check(s.transport, s.hosts); err != nil {
			says := err.Error()
			for _, part := range []string{a.Host, a.User, a.Database, a.Password.Reveal()} {
				if strings.Contains(says, part) {
					field, _, _ := strings.Cut(says, ":")
					if !isWord(field) {
						field = "address"
					}
					says = field + ": this value is not allowed on server " + s.name + notRepeated
					break
				}
			}
			return jobs.Inputf("connection", "", "%s", says)
		}
	}
	if l.owner.User != "" && l.owner.User == l.job.User {
		return jobs.Inputf("owner_user", "", "it is the job login's user too; jobs must not run as the owner of the tables, so give each its own")
	}
	if l.owner.User != "" && l.owner.Database != l.job.Database {
		return jobs.Inputf("owner_connection_string", "", "it leads to another database than the job login")
	}
	return nil
}

func isWord(text string) bool {
	return text != "" && len(text) < 30 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz_") == ""
}

func (p *planner) newDatabase(r *row, said *logins, s *server) (*database, error) {
	kind := cmp.Or(r.kind, catalog.KindDedicated)
	name := r.database
	if name == "" && kind == catalog.KindShared {
		name = strings.ReplaceAll(said.job.Database, "_", "-")
	}
	if name == "" {
		name = cmp.Or(r.slug, slugOf(r))
	}
	switch {
	case kind != catalog.KindShared && kind != catalog.KindDedicated:
		return nil, jobs.Inputf("db_kind", kind, "give shared or dedicated")
	case said.owner.User == "":
		return nil, jobs.Inputf("owner_user", "", "the database is new, and its owner login is missing: give columns owner_user and owner_password or owner_connection_string, or --owner-url-file")
	}
	if err := catalog.CheckName("database", name); err != nil {
		return nil, err
	}
	if p.byName[name] != nil {
		return nil, jobs.Inputf("database", "", "the name that the new database would have is another database's: give a name in a column database")
	}
	d := &database{name: name, dbname: said.job.Database, kind: kind, server: s, line: r.line, said: said, saidLine: r.line}
	d.added = &catalog.DatabaseParams{
		ID: catalog.DatabaseIDAt(s.id, d.dbname).String(), Name: name, Server: s.name, Kind: kind, Job: said.job, Owner: said.owner, SigningKey: catalog.NewSigningKey(),
	}
	p.byName[name], p.byPlace[place{s.name, d.dbname}] = d, d
	p.plan.changes.Databases = append(p.plan.changes.Databases, *d.added)
	return d, nil
}

func (l *logins) same(other *logins, t address.Transport) bool {
	return string(address.Encode(l.job.Canonical(t))) == string(address.Encode(other.job.Canonical(t))) &&
		string(address.Encode(l.owner.Canonical(t))) == string(address.Encode(other.owner.Canonical(t)))
}

// collectLogins lists what the input says of databases that exist.
func (p *planner) collectLogins() {
	for _, d := range p.databases {
		if d.said != nil {
			p.plan.said = append(p.plan.said, catalog.GivenLogins{DatabaseID: d.id.String(), Job: d.said.job, Owner: d.said.owner})
		}
	}
}
