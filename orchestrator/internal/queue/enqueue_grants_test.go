package queue_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/worker/kinds"
)

// A login enqueues its own kinds for its own tenants only.
func TestGrantsOfTheDoor(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	roomtest.Do(t, d.env, `UPDATE headgate.tenants SET plan = 'gold', labels = '{"tier": "one"}' WHERE slug = 'acme'`)
	note, mail := `'note', $1, '{"text": ""}'`, `'mail.send', $1, '{"to": ""}'`
	said := d.refused("HG103", "kind", `kind "note": login `+d.role+` may not enqueue it`, note, "acme")
	require.Equal(t, "An operator allows it: headgate enqueue-grant add "+d.role+" note --tenant SLUG", said.Hint)
	d.refused("HG103", "kind", "may not enqueue it", `'no.such', 'acme'`)

	d.grantFor("note", "tenant = acme")
	d.ok(note, "acme")
	d.refused("HG103", "tenant", `tenant "brick": login `+d.role+` may not enqueue kind "note" for it`, note, "brick")
	d.refused("HG103", "tenant", `tenant "nobody": login`, note, "nobody") // and not that there is none
	d.refused("HG103", "kind", "", mail, "acme")

	d.grantFor("mail.*", "plan = gold and label.tier = one")
	d.ok(mail, "acme")
	d.refused("HG103", "tenant", "", mail, "brick")
	d.refused("HG103", "kind", `kind "mail.move"`, `'mail.move', 'acme'`) // it works as the owner: a star is not enough
	d.grant("mail.move")
	d.ok(`'mail.move', 'acme'`)

	d.grant("*")
	d.ok(note, "brick")
	for _, built := range []string{"headgate.report", "headgate.sql", "headgate.purge", "headgate.analyze", "headgate.vacuum", "headgate.erase", "headgate.tombstone", "headgate.tombstone-database"} {
		d.refused("HG103", "kind", built, `$1, 'acme'`, built)
	}
	d.grant("headgate.*")
	d.ok(`'headgate.report', 'acme'`)
	d.refused("HG103", "kind", "headgate.tombstone", `'headgate.tombstone', 'acme'`)

	removed, err := d.env.Admission.RemoveEnqueueGrant(context.Background(), d.role, "*", nil)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
	d.refused("HG103", "tenant", "", note, "brick")
	_, err = d.env.Admission.RemoveEnqueueGrant(context.Background(), d.role, "*", nil)
	require.ErrorIs(t, err, admission.ErrNoEnqueueGrant)
}

// A grant's expression is evaluated at each call, by what the tenant is then.
func TestAGrantFollowsItsTenants(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	roomtest.Do(t, d.env, `INSERT INTO headgate.features (name, type) VALUES ('blocked', 'boolean')`)
	note := `'note', $1, '{"text": ""}'`
	d.grantFor("note", "not feature.blocked and tenant in (acme)")
	d.ok(note, "acme")
	d.refused("HG103", "tenant", "may not enqueue", note, "brick")
	d.refused("HG103", "tenant", "may not enqueue", note, "nobody")
	roomtest.Do(t, d.env, `UPDATE headgate.plans SET features = '{"blocked": true}' WHERE name = (SELECT plan FROM headgate.tenants WHERE slug = 'acme')`)
	d.refused("HG103", "tenant", "may not enqueue", note, "acme")
	roomtest.Do(t, d.env, `UPDATE headgate.tenants SET features = '{"blocked": false}', status = 'suspended' WHERE slug = 'acme'`)
	d.refused("HG102", "tenant", "is suspended and takes no work", note, "acme")
}

// A grant reaches the logins that inherit its role's rights, and no others.
func TestGrantsOfARoleAreItsMembers(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	group := d.role + "_group"
	for _, sql := range []string{`CREATE ROLE ` + group + ` NOLOGIN`, `GRANT ` + group + ` TO ` + d.role} {
		roomtest.Do(t, d.env, sql)
	}
	t.Cleanup(func() { roomtest.Do(t, d.env, `DROP ROLE `+group) })
	_, hint, err := d.env.Admission.AddEnqueueGrant(context.Background(), admission.EnqueueGrant{Role: group, Kind: "note"})
	require.NoError(t, err)
	require.Contains(t, hint, "may not call headgate.enqueue yet")
	grant := regexp.MustCompile(`GRANT .*`).FindString(hint)
	d.ok(`'note', 'acme', '{"text": ""}'`)
	roomtest.Do(t, d.env, grant) // the advice is carried out
	_, hint, err = d.env.Admission.AddEnqueueGrant(context.Background(), admission.EnqueueGrant{Role: group, Kind: "note"})
	require.NoError(t, err)
	require.Empty(t, hint)

	roomtest.Do(t, d.env, `REVOKE `+group+` FROM `+d.role)
	roomtest.Do(t, d.env, `ALTER ROLE `+d.role+` NOINHERIT`)
	d.pool.Reset()
	roomtest.Do(t, d.env, `GRANT `+group+` TO `+d.role)
	_, err = d.call(`'note', 'acme', '{"text": ""}'`)
	require.Error(t, err) // from Postgres 16 on the first membership was made to inherit, and stays so
	require.Regexp(t, "permission denied|may not enqueue", err.Error(), "who inherits nothing has nothing")
}

// What a caller gives cannot become the job's identity, and what a session is set to cannot
// change what the function does.
func TestTheDoorCannotBeTricked(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grantFor("note", "tenant = acme")
	forged := "01a20f2d-db14-7c70-a2e8-96e98307f059"
	uid := d.ok(`'note', 'acme', jsonb_build_object('text', '', 'job_uid', $1::text, 'tenant', $1::text, 'metadata', jsonb_build_object('job_uid', $1::text))`, forged)
	require.NotEqual(t, forged, uid)
	require.Zero(t, roomtest.Count(t, d.env, `SELECT count(*) FROM river_job WHERE metadata::text LIKE '%' || $1 || '%'`, forged))

	ctx := context.Background()
	conn, err := d.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	for _, sql := range []string{
		`CREATE TEMP TABLE river_job (LIKE pg_class)`, `CREATE TEMP TABLE pg_roles AS SELECT 'x' AS rolname, 10 AS oid`,
		`CREATE FUNCTION pg_temp.pg_has_role(name, oid, text) RETURNS bool LANGUAGE sql AS 'SELECT true'`,
		`CREATE FUNCTION pg_temp.lane(jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$`,
		`SET search_path = pg_temp, headgate, pg_catalog`,
	} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	err = conn.QueryRow(ctx, `SELECT headgate.enqueue('note', 'acme', '{"text": "y"}')::text`).Scan(&uid)
	require.NoError(t, err)
	require.NotEmpty(t, rowOf(t, d.env, uid))
	for _, args := range []string{`'note', 'brick', '{"text": "y"}'`, `'pay', 'acme', '{"amount": 1}'`} {
		_, err = conn.Exec(ctx, `SELECT headgate.enqueue(`+args+`)`)
		require.ErrorContains(t, err, "may not enqueue")
	}
}

// A worker is woken by the commit, as by the Go client's.
func TestSQLEnqueueWakesTheWorkers(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("mail.*")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ear, err := pgx.Connect(ctx, d.env.URL)
	require.NoError(t, err)
	defer func() { _ = ear.Close(context.Background()) }()
	_, err = ear.Exec(ctx, `LISTEN "public.river_insert"`)
	require.NoError(t, err)
	d.ok(`'mail.send', 'acme', '{"to": ""}'`)
	heard, err := ear.WaitForNotification(ctx)
	require.NoError(t, err)
	require.JSONEq(t, `{"queue": "mail"}`, heard.Payload)
	require.Equal(t, 1, roomtest.Count(t, d.env, `SELECT count(*) FROM headgate.wakeups WHERE queue = 'mail' AND kind = 'mail.send'`))
	tx, err := d.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT headgate.enqueue('mail.send', 'acme', '{"to": ""}')`)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, 1, roomtest.Count(t, d.env, `SELECT count(*) FROM river_job`), "a job is there if the transaction commits")
}

// An argument is required if all programs that have the kind require it. What programs that
// are gone required refuses nothing.
func TestRequiredArgumentsOfLivingPrograms(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.grant("note")
	ctx := context.Background()
	form := func(queue string, required ...string) kinds.Form {
		f := kinds.FormOf(roomtest.Note{})
		f.Required, f.Queue = required, queue
		return f
	}
	said := d.refused("HG105", "args", `lack "text"`, `'note', 'acme'`)
	require.Equal(t, "Every worker that has the kind requires: text.", said.Hint)
	require.NoError(t, kinds.Publish(ctx, d.env.Pool, []kinds.Form{form("newer", "size", "text")}, time.Hour))
	d.refused("HG105", "args", `lack "text"`, `'note', 'acme', '{"size": 1}'`)
	uid := d.ok(`'note', 'acme', '{"text": ""}'`) // the older program does it
	require.Equal(t, "newer", rowOf(t, d.env, uid)["queue"], "the settings are the newest program's")
	gone := func(where string) {
		roomtest.Do(t, d.env, `UPDATE headgate.kinds SET alive_until = now() - interval '1 second' WHERE kind = 'note' AND `+where)
	}
	gone(`queue = 'default'`)
	d.refused("HG105", "args", `lack "size"`, `'note', 'acme', '{"text": ""}'`)
	gone(`true`)
	require.Equal(t, "newer", rowOf(t, d.env, d.ok(`'note', 'acme'`))["queue"], "no program lives: nothing is required, and the kind is known still")

	require.NoError(t, kinds.Publish(ctx, d.env.Pool, []kinds.Form{form("default", "text")}, time.Hour))
	d.refused("HG105", "args", `lack "text"`, `'note', 'acme', '{"size": 1}'`)
	require.Equal(t, "default", rowOf(t, d.env, d.ok(`'note', 'acme', '{"text": ""}'`))["queue"], "an older program that is started again is the newest that lives")
}

// The door costs no more with many grants and tenants.
func TestGrantsAreBounded(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	ctx := context.Background()
	for i := range 200 {
		d.grant(fmt.Sprint("kind", i))
	}
	_, _, err := d.env.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: d.role, Kind: "one-more"})
	var input *jobs.InputError
	require.True(t, errors.As(err, &input))
	require.Contains(t, err.Error(), "it has 200 grants already")
	seen := 0
	for page := (jobs.Page{Limit: 77}); ; {
		list, next, err := d.env.Admission.EnqueueGrants(ctx, d.role, page)
		require.NoError(t, err)
		seen += len(list)
		if page.After = next; next == "" {
			break
		}
	}
	require.Equal(t, 200, seen)
	for _, wrong := range []admission.EnqueueGrant{
		{Role: "", Kind: "note"}, {Role: "no_such_role_" + d.role, Kind: "note"}, {Role: d.role, Kind: "a b"}, {Role: d.role, Kind: "a*b"},
		{Role: d.role, Kind: ""}, {Role: d.role, Kind: "headgate.tombstone"}, {Role: d.role, Kind: "n\x00*"}, {Role: "\x00", Kind: "note"},
	} {
		_, _, err := d.env.Admission.AddEnqueueGrant(ctx, wrong)
		require.True(t, errors.As(err, &input), "%+v: %v", wrong, err)
	}
}
