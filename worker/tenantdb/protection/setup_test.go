package protection_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb/address"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// house is a shared database with an application in it.
type house struct {
	t     *testing.T
	db    *jobstest.Database
	owner *pgx.Conn // the catalog's owner login
	job   *pgx.Conn // the catalog's job login
	roles int
}

// newHouse makes one, with a schema that the owner runs.
func newHouse(t *testing.T, schema string) *house {
	t.Helper()
	db := jobstest.New(t).Database("shared", jobstest.DatabaseOpts{Schema: schema, On: jobstest.Direct(t)})
	h := &house{t: t, db: db}
	h.owner, h.job = h.login(db.Owner), h.login(db.Job)
	h.root(`GRANT CREATE ON SCHEMA public TO ` + db.Owner.User)
	return h
}

func (h *house) login(a address.Address) *pgx.Conn {
	h.t.Helper()
	return h.connect(a.User, a.Password.Reveal())
}

func (h *house) connect(user, password string) *pgx.Conn {
	h.t.Helper()
	cfg := h.db.Pool.Config().ConnConfig.Copy()
	cfg.User, cfg.Password, cfg.Fallbacks = user, password, nil
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// root runs statements as the superuser.
func (h *house) root(statements ...string) {
	h.t.Helper()
	for _, sql := range statements {
		_, err := h.db.Pool.Exec(context.Background(), sql)
		require.NoError(h.t, err, sql)
	}
}

// mine runs statements as the owner.
func (h *house) mine(statements ...string) {
	h.t.Helper()
	for _, sql := range statements {
		_, err := h.owner.Exec(context.Background(), sql)
		require.NoError(h.t, err, sql)
	}
}

// role makes a role that is dropped with the test, and returns its name. attributes are as
// CREATE ROLE has them.
func (h *house) role(attributes string) string {
	h.t.Helper()
	h.roles++
	name := fmt.Sprintf("%s_r%d", h.db.Job.Database, h.roles)
	h.root(`CREATE ROLE ` + name + ` ` + attributes)
	h.t.Cleanup(func() {
		for _, sql := range []string{`DROP OWNED BY ` + name + ` CASCADE`, `DROP ROLE ` + name} {
			_, _ = h.db.Pool.Exec(context.Background(), sql)
		}
	})
	return name
}

// asOrg runs work as a job of an organisation, and undoes it.
func (h *house) asOrg(org int64, work func(tx pgx.Tx)) {
	h.t.Helper()
	ctx := context.Background()
	tx, err := h.job.Begin(ctx)
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, tx.Rollback(ctx)) }()
	enter(h.t, h.db, tx, org)
	work(tx)
}

// enter gives a transaction the context of a job.
func enter(t require.TestingT, db *jobstest.Database, tx pgx.Tx, org int64) {
	err := db.ActFor(context.Background(), tx, org)
	require.NoError(t, err)
}

func (h *house) fingerprint() string {
	h.t.Helper()
	value, err := protection.Fingerprint(context.Background(), h.job)
	require.NoError(h.t, err)
	return value
}

func (h *house) inspect() protection.Report {
	h.t.Helper()
	report, err := protection.Inspect(context.Background(), h.job, protection.Options{Database: "shared"})
	require.NoError(h.t, err)
	return report
}

// open lists what is open, a line each.
func (h *house) open() string {
	h.t.Helper()
	return lines(h.inspect().Open())
}

func lines(findings []protection.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Code+" "+f.Object)
	}
	return strings.Join(all, "\n")
}

func (h *house) request(tables ...protection.Table) protection.Request {
	return protection.Request{Database: "shared", Login: h.db.Job.User, Tables: tables, Actor: "tester"}
}

// protect applies a request, and returns what it was.
func (h *house) protect(req protection.Request) protection.Plan {
	h.t.Helper()
	plan, err := protection.Apply(context.Background(), h.owner, req)
	require.NoError(h.t, err)
	if plan.Path != nil {
		_, err = h.job.Exec(context.Background(), plan.Path.SQL)
		require.NoError(h.t, err)
		h.job = h.login(h.db.Job) // a role's settings count from the next session on
	}
	return plan
}

// refused says that a request is refused, in which words, and that nothing has changed.
func (h *house) refused(req protection.Request, says ...string) {
	h.t.Helper()
	before := h.fingerprint()
	_, err := protection.Apply(context.Background(), h.owner, req)
	require.Error(h.t, err)
	for _, s := range says {
		require.Contains(h.t, err.Error(), s)
	}
	require.Equal(h.t, before, h.fingerprint(), "nothing is changed")
}

// count asks as a job of an organisation. It is -1 where the job is refused.
func (h *house) count(org int64, from string) (n int) {
	h.t.Helper()
	h.asOrg(org, func(tx pgx.Tx) {
		if err := tx.QueryRow(context.Background(), `SELECT count(*) FROM `+from).Scan(&n); err != nil {
			require.ErrorContains(h.t, err, "42501")
			n = -1
		}
	})
	return n
}
