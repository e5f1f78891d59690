package catalog

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// keepFor is how long after its last use an answer is worth confirming.
const keepFor = 10 * time.Second

// confirm asks about all answers in use with one query and drops those whose rows
// have changed. What goes wrong is no matter: they age. One caller asks; who holds
// a fresh answer does not wait for it, and nobody does in an outage.
func (m *memory) confirm(ctx context.Context, pool *pgxpool.Pool, a *answer, fresh bool) {
	now := m.clock()
	m.mu.Lock()
	if f := m.confirming; f != nil {
		outage := m.outage.cause != nil
		m.mu.Unlock()
		if !fresh && !outage {
			f.wait(ctx)
		}
		return
	}
	if now-m.confirmed < int64(m.life(a)/4) || m.outage.closed(now) {
		m.mu.Unlock()
		return
	}
	f := &flight{done: make(chan struct{}), err: errGivenUp}
	m.confirming, m.confirmed = f, now
	m.outage.begin(now)
	m.mu.Unlock()

	wanted := m.wanted(now)
	var found foundVersions
	defer func() { m.renew(f, now, wanted, found) }()
	found, f.err = wanted.versions(ctx, pool)
}

// renew ends a question about all, which began at a time. Answers that were dropped
// meanwhile are in nobody's hands any more; the others were not changed.
func (m *memory) renew(f *flight, began int64, wanted wanted, found foundVersions) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirming = nil
	close(f.done)
	m.outage.note(f.err, m.clock())
	if f.err != nil {
		return
	}
	for q, a := range wanted.answers {
		switch {
		case a.checked.Load() > began: // newer than the question
		case a.versions == found.of(q, a):
			a.checked.Store(began)
		default:
			m.forget(q, a)
		}
	}
}

// forget drops an answer unless a newer one has taken its place. The caller holds
// mu.
func (m *memory) forget(q question, a *answer) {
	if newest, ok := m.cache.GetEntryQuietly(q); ok && newest.Value == a {
		m.cache.Invalidate(q)
	}
}

// wanted are the answers worth confirming.
type wanted struct {
	answers                 map[question]*answer
	tenants, domains, mails []string
}

// wanted drops the answers that are of no use any more.
func (m *memory) wanted(now int64) wanted {
	w := wanted{answers: map[question]*answer{}}
	var idle []question
	for q, a := range m.cache.All() {
		if now-a.used.Load() >= int64(keepFor) {
			if now-a.checked.Load() >= int64(max(m.StaleFor, m.life(a))) {
				idle = append(idle, q)
			}
			continue
		}
		if !a.known {
			continue
		}
		w.answers[q] = a
		w.tenants = append(w.tenants, a.tenant.ID)
		switch q.by {
		case byDomain:
			w.domains = append(w.domains, q.name)
		case byEmail:
			w.mails = append(w.mails, q.name)
		}
	}
	for _, q := range idle {
		m.cache.Invalidate(q)
	}
	return w
}

// Three lists in one query, each by primary key: the rows that say who a tenant is,
// what it has and where it lives, and those that say which tenant a domain means. The lists are text, for
// a pool whose queries do not ask for their types.
const rowVersionsSQL = `
SELECT t.id, '', 0, ` + versionFields + tenantRows + `WHERE t.id = ANY ($1::text[]::uuid[])
UNION ALL
SELECT n.tenant_id, n.domain, $4::int, n.xmin, '0'::xid, '0'::xid, '0'::xid, 0
FROM headgate.tenant_domains n
WHERE n.domain = ANY ($2::text[])
UNION ALL
SELECT n.tenant_id, n.domain, $5::int, n.xmin, '0'::xid, '0'::xid, '0'::xid, 0
FROM headgate.tenant_emails n
WHERE n.domain = ANY ($3::text[])`

// foundVersions are what the rows say now. What is not there is zero, which no row
// is.
type foundVersions struct {
	tenants map[uuid.UUID]rowVersions
	names   map[question]uint32
}

func (w wanted) versions(ctx context.Context, pool *pgxpool.Pool) (found foundVersions, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askFor)
	defer cancel()
	rows, err := pool.Query(ctx, rowVersionsSQL, w.tenants, w.domains, w.mails, int(byDomain), int(byEmail))
	if err != nil {
		return found, err
	}
	found = foundVersions{make(map[uuid.UUID]rowVersions, len(w.tenants)), map[question]uint32{}}
	var id uuid.UUID
	var name string
	var kind int
	var v rowVersions
	_, err = pgx.ForEachRow(rows, append([]any{&id, &name, &kind}, v.targets()...), func() error {
		if name == "" {
			found.tenants[id] = v
		} else {
			found.names[question{by: by(kind), name: name}] = v.tenant
		}
		return nil
	})
	return found, err
}

// of returns what the answer's own versions should be.
func (found foundVersions) of(q question, a *answer) rowVersions {
	v := found.tenants[a.ids[0]]
	v.name = found.names[q]
	return v
}
