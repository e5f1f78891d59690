package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/selector"
	"github.com/headgate/headgate/worker/kinds"
)

// Mail has settings of its own.
type Mail struct {
	To   string `json:"to"`
	Copy string `json:"copy,omitempty"`
}

func (Mail) Kind() string { return "mail.send" }

func (Mail) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: "mail", Priority: 3, MaxAttempts: 7}
}

// Move works as a database's owner, for one tenant.
type Move struct{}

func (Move) Kind() string { return "mail.move" }

func (Move) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Login: jobs.LoginOwner, Idempotence: jobs.Idempotent}
}

// built is a built-in kind.
type built struct{}

func (built) Kind() string { return "headgate.report" }

// door is a login that only enqueues.
type door struct {
	t    *testing.T
	env  *jobstest.Env
	role string
	pool *pgxpool.Pool
}

// newDoor publishes the kinds of these tests, and opens a login without any grant.
func newDoor(t *testing.T) *door {
	t.Helper()
	env := roomtest.Setup(t)
	publish(t, env, roomtest.Note{}, Pay{}, Mail{}, Move{}, built{}, roomtest.Tidy{})
	role, url := env.RoleLogin("enqueue")
	pool, err := pgxpool.New(context.Background(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return &door{t, env, role, pool}
}

func publish(t *testing.T, env *jobstest.Env, likes ...jobs.Args) {
	t.Helper()
	var forms []kinds.Form
	for _, like := range likes {
		forms = append(forms, kinds.FormOf(like))
	}
	require.NoError(t, kinds.Publish(context.Background(), env.Pool, forms, time.Hour))
}

// grant lets the login enqueue a kind for all tenants.
func (d *door) grant(kind string) { d.grantFor(kind, selector.All) }

// grantFor lets the login enqueue a kind for the tenants that an expression selects.
func (d *door) grantFor(kind, expression string) {
	d.t.Helper()
	terms, err := selector.Parse(expression)
	require.NoError(d.t, err)
	_, hint, err := d.env.Admission.AddEnqueueGrant(context.Background(), admission.EnqueueGrant{Role: d.role, Kind: kind, Tenants: terms})
	require.NoError(d.t, err)
	require.Empty(d.t, hint)
}

// call calls headgate.enqueue with these arguments, as SQL.
func (d *door) call(args string, values ...any) (uid string, err error) {
	err = d.pool.QueryRow(context.Background(), `SELECT headgate.enqueue(`+args+`)::text`, values...).Scan(&uid)
	return uid, err
}

func (d *door) ok(args string, values ...any) string {
	d.t.Helper()
	uid, err := d.call(args, values...)
	require.NoError(d.t, err, args)
	return uid
}

// refusal is what the function says.
type refusal struct{ Message, Hint string }

// refused calls the function, which has to refuse, with a code, a field and a next step.
func (d *door) refused(code, field, says, args string, values ...any) refusal {
	d.t.Helper()
	_, err := d.call(args, values...)
	var said *pgconn.PgError
	require.ErrorAs(d.t, err, &said, args)
	require.Equal(d.t, code, said.Code, "%s: %s", args, said.Message)
	require.Equal(d.t, field, said.ColumnName, args)
	require.Contains(d.t, said.Message, says, args)
	require.NotEmpty(d.t, said.Hint, args)
	return refusal{said.Message, said.Hint}
}

// rowOf is a job's row without what differs from job to job.
func rowOf(t *testing.T, env *jobstest.Env, uid string) map[string]any {
	t.Helper()
	var raw []byte
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT to_jsonb(j) || jsonb_build_object('late', j.scheduled_at > now() + interval '1 minute', 'at_once', j.scheduled_at = j.created_at)
FROM river_job j WHERE j.id = $1`, env.RowOf(uid)).Scan(&raw))
	row := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &row))
	meta := row["metadata"].(map[string]any)
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, meta["job_uid"])
	meta["job_uid"] = ""
	for _, name := range []string{"id", "created_at"} {
		delete(row, name)
	}
	if row["late"] == false {
		delete(row, "scheduled_at")
	}
	return row
}

// A row that SQL has enqueued is the row that Go would have, field by field.
func TestSQLEnqueuesWhatGoEnqueues(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("*")
	ctx := context.Background()
	at := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	for _, c := range []struct {
		sql  string
		args jobs.Args
		opts *jobs.EnqueueOpts
	}{
		{`'note', 'acme', '{"text": "x"}'`, roomtest.Note{Text: "x"}, nil},
		{`'mail.send', 'acme', '{"to": "a<b>&c"}'`, Mail{To: "a<b>&c"}, nil},
		{`kind => 'mail.send', tenant => 'acme', args => '{"to": "x"}', queue => 'slow_1', priority => 4`, Mail{To: "x"}, &jobs.EnqueueOpts{Queue: "slow_1", Priority: 4}},
		{`'note', 'acme', '{"text": "é😀"}', '` + at.Format(time.RFC3339) + `'`, roomtest.Note{Text: "é😀"}, &jobs.EnqueueOpts{RunAt: at}},
		{`'pay', 'acme', '{"amount": 12345678901234, "more": {"b": [1, 2.5], "a": null}}', idempotency_key => 'k-sql'`,
			Pay{Amount: 12345678901234, More: map[string]any{"a": nil, "b": []any{1, 2.5}}}, key("k-go")},
	} {
		result, err := d.env.Client.Enqueue(ctx, "acme", c.args, c.opts)
		require.NoError(t, err)
		require.Equal(t, rowOf(t, d.env, result.UID), rowOf(t, d.env, d.ok(c.sql)), c.sql)
	}
	var tenant catalog.Tenant
	tenant, err := d.env.Catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	for _, name := range []string{tenant.ID, strings.ToUpper(tenant.ID), fmt.Sprint(tenant.OrgID)} {
		require.Equal(t, rowOf(t, d.env, d.ok(`'note', 'acme', '{"text": "x"}'`)), rowOf(t, d.env, d.ok(`'note', $1, '{"text": "x"}'`, name)), name)
	}
	var before, after time.Time
	var millis int64
	require.NoError(t, d.env.Pool.QueryRow(ctx, `
SELECT a, ('x' || left(replace(uid::text, '-', ''), 12))::bit(48)::bigint, clock_timestamp() FROM (SELECT clock_timestamp() AS a, headgate.new_uid() AS uid OFFSET 0) u`).Scan(&before, &millis, &after))
	require.WithinRange(t, time.UnixMilli(millis), before.Truncate(time.Millisecond), after)
}

// What the Go client refuses SQL refuses, and what only SQL has to refuse too. Nothing is
// written.
func TestSQLEnqueueRefuses(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("*")
	d.grant("tidy")
	roomtest.Do(t, d.env, `UPDATE headgate.tenants SET status = 'suspended' WHERE slug = 'brick'`)
	for _, c := range []struct{ code, field, says, args string }{
		{"HG100", "kind", "kind NULL", `NULL, 'acme'`},
		{"HG100", "kind", `kind "no te": a kind's name is`, `'no te', 'acme'`},
		{"HG100", "kind", `kind "n"`, `'n', 'acme'`},
		{"HG100", "kind", "…: a kind's name is 2 to 127", `repeat('n', 128), 'acme'`},
		{"HG104", "kind", `kind "note2": no worker has published it`, `'note2', 'acme'`},
		{"HG107", "kind", `kind "tidy": it works on a whole database`, `'tidy', 'acme'`},
		{"HG101", "tenant", "tenant NULL: no tenant", `'note', NULL`},
		{"HG101", "tenant", `tenant "acme2": no tenant has this slug`, `'note', 'acme2'`},
		{"HG101", "tenant", "no tenant", `'note', gen_random_uuid()::text`},
		{"HG101", "tenant", "no tenant", `'note', '9999999999999999999999999'`},
		{"HG101", "tenant", "no tenant", `'note', E'acme\'; DROP TABLE x'`},
		{"HG102", "tenant", `tenant "brick" is suspended`, `'note', 'brick'`},
		{"HG100", "args", "args are NULL", `'note', 'acme', NULL`},
		{"HG100", "args", "args are of type array", `'note', 'acme', '[1]'`},
		{"HG100", "args", "args are of type null", `'note', 'acme', 'null'`},
		{"HG100", "args", "bytes of JSON", `'note', 'acme', jsonb_build_object('text', repeat('x', 262144))`},
		{"HG100", "args", "more than 1000 digits", `'note', 'acme', ('{"text": "", "n": [{"a": ' || repeat('9', 1001) || '}]}')::jsonb`},
		{"HG105", "args", `args of kind "note" lack "text"`, `'note', 'acme'`},
		{"HG105", "args", `lack "text"`, `'note', 'acme', '{"Text": "x"}'`},
		{"HG100", "args", "more than 100 arrays and objects", `'note', 'acme', ('{"text": "[[", "a": ' || repeat('[', 100) || repeat(']', 100) || '}')::jsonb`},
		{"HG100", "queue", `queue "Big": a queue's name is`, `'note', 'acme', '{"text": ""}', queue => 'Big'`},
		{"HG100", "queue", `queue ""`, `'note', 'acme', '{"text": ""}', queue => ''`},
		{"HG100", "queue", "queue", `'note', 'acme', '{"text": ""}', queue => repeat('q', 65)`},
		{"HG100", "priority", "priority 0: give 1 (first) to 4", `'note', 'acme', '{"text": ""}', priority => 0`},
		{"HG100", "priority", "priority 5", `'note', 'acme', '{"text": ""}', priority => 5`},
		{"HG100", "run_at", `run_at "infinity": give a time within the next ten years`, `'note', 'acme', '{"text": ""}', 'infinity'`},
		{"HG100", "run_at", "within the next ten years", `'note', 'acme', '{"text": ""}', now() + interval '3651 days'`},
		{"HG100", "run_at", "within the next ten years", `'note', 'acme', '{"text": ""}', '1999-12-31', idempotency_key => 'k'`},
		{"HG100", "run_at", "it is past", `'note', 'acme', '{"text": ""}', now() - interval '2 minutes'`},
		{"HG100", "run_at", "it is past", `'note', 'acme', '{"text": ""}', now() - interval '2 minutes', idempotency_key => 'k'`},
		{"HG100", "idempotency_key", "has 0 characters", `'note', 'acme', '{"text": ""}', idempotency_key => ''`},
		{"HG100", "idempotency_key", "has 201 characters", `'note', 'acme', '{"text": ""}', idempotency_key => repeat('é', 201)`},
	} {
		said := d.refused(c.code, c.field, c.says, c.args)
		require.True(t, strings.HasPrefix(said.Message, "headgate.enqueue: "), said.Message)
		require.NotContains(t, said.Message, "\n")
	}
	require.Zero(t, roomtest.Count(t, d.env, `SELECT count(*) FROM river_job`))
	require.Zero(t, roomtest.Count(t, d.env, `SELECT count(*) FROM headgate.idempotency_keys`))
	roomtest.Do(t, d.env, `UPDATE headgate.tenants SET status = 'moving' WHERE slug = 'brick'`)
	d.ok(`'note', 'brick', '{"text": "waits, as with the Go client"}'`)
	d.ok(`'note', 'acme', jsonb_build_object('text', repeat('9', 2000))`)
}

// The characters of a key that SQL refuses are those that Go refuses.
func TestSQLRefusesTheKeysThatGoRefuses(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("note")
	for _, k := range []string{"a\nb", "a\tb", "a\u00a0b", "a\u200bb", "a\u2028b", "a\ufeffb", "a\u00adb", "\u3000", "\ue000", "\u007f", "a b", "é-ß/ø", "日本", "😀", "a\u0301", "~!@#$%^&*()'\"\\"} {
		_, goErr := d.env.Client.Enqueue(context.Background(), "acme", roomtest.Note{Text: k}, key(k))
		_, sqlErr := d.call(`'note', 'acme', jsonb_build_object('text', $1::text), idempotency_key => $1::text`, k)
		require.Equal(t, goErr == nil, sqlErr == nil, "%q: %v, %v", k, goErr, sqlErr)
	}
}

// A key that one of the two doors has taken answers at the other.
func TestIdempotencyKeysOfBothDoors(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("*")
	ctx := context.Background()
	first, err := d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 5, To: "<b>", More: map[string]any{"x": 1e3}}, key("go"))
	require.NoError(t, err)
	require.Equal(t, first.UID, d.ok(`'pay', 'acme', '{"more": {"x": 1000}, "to": "<b>",   "amount": 5}', idempotency_key => 'go'`))
	said := d.refused("HG106", "idempotency_key", `idempotency_key "go" was used for another request, job `+first.UID+`: the args.amount differ`, `'pay', 'acme', '{"amount": 6, "to": "<b>", "more": {"x": 1000}}', idempotency_key => 'go'`)
	require.Contains(t, said.Hint, "another key")
	d.refused("HG106", "idempotency_key", "the kind differ", `'note', 'acme', '{"text": ""}', idempotency_key => 'go'`)

	uid := d.ok(`'pay', 'acme', '{"amount": 7}', idempotency_key => 'sql'`)
	again, err := d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 7}, key("sql"))
	require.NoError(t, err)
	require.Equal(t, jobs.EnqueueResult{UID: uid, Status: jobs.StatusSame}, again)
	_, err = d.env.Client.Enqueue(ctx, "acme", Pay{Amount: 8}, key("sql"))
	var conflict *jobs.IdempotencyConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, jobs.IdempotencyConflictError{Key: "sql", FirstUID: uid, Field: "args.amount"}, *conflict)

	require.NotEqual(t, uid, d.ok(`'pay', 'brick', '{"amount": 7}', idempotency_key => 'sql'`), "another tenant's key is another key")
	require.Equal(t, uid, d.ok(`'pay', 'acme', '{"amount": 7}', now() - interval '1 hour', idempotency_key => 'sql'`), "a repeated request that was in time")
	require.Equal(t, 3, roomtest.Count(t, d.env, `SELECT count(*) FROM river_job`))

	var retention time.Duration
	require.NoError(t, d.env.Pool.QueryRow(ctx, `SELECT headgate.idempotency_retention()`).Scan(&retention))
	require.Equal(t, jobs.IdempotencyRetention, retention, "one time, in Go and in SQL")
	roomtest.PutInto(t, d.env, d.env.RowOf(uid), "completed")
	roomtest.Do(t, d.env, `UPDATE headgate.idempotency_keys SET created_at = now() - interval '31 days'`)
	require.NotEqual(t, uid, d.ok(`'pay', 'acme', '{"amount": 8}', idempotency_key => 'sql'`), "a key past its time is free")
}

// However many ask at once under one key, by SQL or in Go, there is one job.
func TestIdempotencyKeyAtOnceByBothDoors(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("pay")
	for round := range 15 {
		k := fmt.Sprint("round-", round)
		uids := [6]string{}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range uids {
			wg.Go(func() {
				<-start
				var err error
				if i%2 == 0 {
					uids[i], err = d.call(`'pay', 'acme', '{"amount": 5}', idempotency_key => $1`, k)
				} else {
					var result jobs.EnqueueResult
					result, err = d.env.Client.Enqueue(context.Background(), "acme", Pay{Amount: 5}, key(k))
					uids[i] = result.UID
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		for _, uid := range uids {
			require.Equal(t, uids[0], uid)
		}
		require.Equal(t, round+1, roomtest.Count(t, d.env, `SELECT count(*) FROM river_job`))
	}
}
