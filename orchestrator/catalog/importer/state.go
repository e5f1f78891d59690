package importer

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// state is the catalog as of one moment.
type state struct {
	tenants   []*tenant
	byOrg     map[int64]*tenant
	bySlug    map[string]*tenant
	byKey     map[string][]*tenant
	databases map[uuid.UUID]*database
	byName    map[string]*database
	byPlace   map[place]*database
	servers   map[string]*server
	features  map[string]string             // the type of each
	plans     map[string]bool               // the names of those that there are
	named     map[string]string             // what keeps each slug that a grant or a template names
	domains   map[catalog.BulkDomain]*owner // of the two name spaces: the kind is "" or that of e-mail
}

// tenant is a row of the catalog.
type tenant struct {
	id                                                   uuid.UUID
	orgID                                                int64
	orgKey, slug, name, plan, timezone, labels, features string
	status                                               catalog.Status
	source                                               string
	bySync                                               bool // a sync has suspended or archived it
	version                                              int
	databaseID                                           uuid.UUID
	domains                                              []catalog.BulkDomain
	line                                                 int    // of the row that is this tenant; 0 for none
	newSlug                                              string // what the input makes of it
}

// removed is the status of a tenant whose UUID, org_id and name are nobody else's ever.
const removed catalog.Status = "removed"

// owner says whose a domain is, and whose it becomes.
type owner struct {
	tenant *tenant
	line   int // of the row that claims it
}

// database is a row of the catalog, or one that the input adds.
type database struct {
	id           uuid.UUID
	name, dbname string
	kind         string
	server       *server
	tenants      int
	living       int      // but for removed ones; and those that the input adds
	most         *int     // how many may live there; nil: any number
	plans        []string // of which plans; nil: of any
	lacks        []string // plans of the input that it does not take, the first 20
	line         int      // of the row that adds it, or that puts its tenant there
	added        *catalog.DatabaseParams
	said         *logins
	saidLine     int
}

type server struct {
	id        uuid.UUID
	name      string
	hosts     []string
	transport address.Transport
}

type place struct{ server, dbname string }

const tenantsReadSQL = `
SELECT t.id, t.org_id, coalesce(t.org_key, t.org_id::text), t.slug, t.name, t.plan, t.timezone, t.labels::text, t.features::text,
       t.status, t.stopped_by = 'sync', t.source, t.version, coalesce(t.database_id, '00000000-0000-0000-0000-000000000000')
FROM headgate.tenants t
ORDER BY t.slug`

const databasesReadSQL = `
SELECT d.id, d.name, d.dbname, d.kind, s.name, d.max_tenants, d.plans
FROM headgate.databases d JOIN headgate.servers s ON s.id = d.server_id`

const serversReadSQL = `SELECT id, name, hosts, transport FROM headgate.servers ORDER BY name`

const featuresReadSQL = `SELECT name, type FROM headgate.features`

const plansReadSQL = `SELECT name FROM headgate.plans`

const namedReadSQL = `SELECT DISTINCT ON (n.slug) n.slug, n.rule, n.named_by FROM headgate.named_slugs n ORDER BY n.slug, n.rule, n.named_by`

const domainsReadSQL = `
SELECT tenant_id, domain, kind FROM headgate.tenant_domains
UNION ALL
SELECT tenant_id, domain, 'email' FROM headgate.tenant_emails
ORDER BY 1, 2`

// read reads the catalog, in one transaction whose statements see one moment.
func read(ctx context.Context, tx pgx.Tx) (*state, error) {
	s := &state{
		byOrg: map[int64]*tenant{}, bySlug: map[string]*tenant{}, byKey: map[string][]*tenant{}, databases: map[uuid.UUID]*database{}, byName: map[string]*database{},
		byPlace: map[place]*database{}, servers: map[string]*server{}, features: map[string]string{}, plans: map[string]bool{}, named: map[string]string{}, domains: map[catalog.BulkDomain]*owner{},
	}
	for _, part := range []func(context.Context, pgx.Tx) error{s.readServers, s.readDatabases, s.readFeatures, s.readPlans, s.readNamed, s.readTenants} {
		if err := part(ctx, tx); err != nil {
			return nil, err
		}
	}
	return s, s.readDomains(ctx, tx)
}

func (s *state) readServers(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, serversReadSQL) // its error is ForEachRow's too
	var v server
	_, err := pgx.ForEachRow(rows, []any{&v.id, &v.name, &v.hosts, &v.transport}, func() error {
		found := v
		v.hosts = nil
		s.servers[found.name] = &found
		return nil
	})
	return err
}

func (s *state) readDatabases(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, databasesReadSQL)
	var d database
	var server string
	_, err := pgx.ForEachRow(rows, []any{&d.id, &d.name, &d.dbname, &d.kind, &server, &d.most, &d.plans}, func() error {
		found := d
		d.most, d.plans = nil, nil
		found.server = s.servers[server]
		s.databases[d.id], s.byName[d.name], s.byPlace[place{server, d.dbname}] = &found, &found, &found
		return nil
	})
	return err
}

func (s *state) readFeatures(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, featuresReadSQL)
	var name, kind string
	_, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		s.features[name] = kind
		return nil
	})
	return err
}

func (s *state) readPlans(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, plansReadSQL)
	var name string
	_, err := pgx.ForEachRow(rows, []any{&name}, func() error {
		s.plans[name] = true
		return nil
	})
	return err
}

func (s *state) readNamed(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, namedReadSQL)
	var slug, rule, by string
	_, err := pgx.ForEachRow(rows, []any{&slug, &rule, &by}, func() error {
		s.named[slug] = catalog.SlugNamed(rule, by)
		return nil
	})
	return err
}

func (s *state) readTenants(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, tenantsReadSQL)
	var t tenant
	texts := texts{}
	_, err := pgx.ForEachRow(rows, []any{
		&t.id, &t.orgID, &t.orgKey, &t.slug, &t.name, &t.plan, &t.timezone, &t.labels, &t.features, &t.status, &t.bySync, &t.source, &t.version, &t.databaseID,
	}, func() error {
		found := t
		found.plan, found.timezone, found.features, found.source = texts.of(t.plan), texts.of(t.timezone), texts.of(t.features), texts.of(t.source)
		found.newSlug = found.slug
		s.tenants = append(s.tenants, &found)
		s.byOrg[t.orgID], s.bySlug[t.slug] = &found, &found
		s.byKey[t.orgKey] = append(s.byKey[t.orgKey], &found)
		if d := s.databases[t.databaseID]; d != nil {
			d.tenants++
			if t.status != removed {
				d.living++
			}
		}
		return nil
	})
	return err
}

func (s *state) readDomains(ctx context.Context, tx pgx.Tx) error {
	byID := make(map[uuid.UUID]*tenant, len(s.tenants))
	for _, t := range s.tenants {
		byID[t.id] = t
	}
	rows, _ := tx.Query(ctx, domainsReadSQL)
	var id uuid.UUID
	var d catalog.BulkDomain
	_, err := pgx.ForEachRow(rows, []any{&id, &d.Name, &d.Kind}, func() error {
		if t := byID[id]; t != nil {
			t.domains = append(t.domains, d)
			s.domains[spaceOf(d)] = &owner{tenant: t}
		}
		return nil
	})
	return err
}

// spaceOf is a domain among those that it must differ from.
func spaceOf(d catalog.BulkDomain) catalog.BulkDomain {
	if d.Kind != catalog.DomainEmail {
		d.Kind = ""
	}
	return d
}

// texts keeps one copy of texts that many rows have.
type texts map[string]string

func (known texts) of(text string) string {
	if same, ok := known[text]; ok {
		return same
	}
	if len(known) < 10_000 {
		known[text] = text
	}
	return text
}

// serverOf finds the server of an address, by name or by the host.
func (s *state) serverOf(name, host string) (*server, error) {
	if name != "" {
		if found := s.servers[name]; found != nil {
			return found, nil
		}
		return nil, jobs.Inputf("server", "", "no server has this name; `headgate server list` shows them")
	}
	var found *server
	for _, v := range s.servers {
		canonical, err := v.transport.CheckHost(host)
		if err != nil || !slices.Contains(v.hosts, canonical) {
			continue
		}
		if found != nil {
			return nil, jobs.Inputf("db_host", "", "servers %q and %q both have this host: name one in a column server", min(found.name, v.name), max(found.name, v.name))
		}
		found = v
	}
	if found == nil {
		return nil, jobs.Inputf("db_host", "", "no server has this host: `headgate server list` shows them, and `headgate server add` makes one")
	}
	return found, nil
}
