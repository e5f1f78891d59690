package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"

	"github.com/headgate/headgate/orchestrator/catalog"
)

// rotation is a central database whose values k1 has sealed, and rings on it.
type rotation struct {
	bundle
	k1, k2    address.Secret
	old, both *catalog.KeyRing // k1; k2 before k1
}

func rotating(t testing.TB, databases ...string) rotation {
	t.Helper()
	r := rotation{bundle: setup(t), k1: catalog.NewKey("k1"), k2: catalog.NewKey("k2")}
	r.old, r.both = ring(t, r.k1), ring(t, r.k2, r.k1)
	r.Catalog = catalog.New(r.pool, r.old)
	r.addServer(t)
	for _, name := range databases {
		r.addDatabase(t, name, catalog.KindShared)
	}
	return r
}

func ring(t testing.TB, keys ...address.Secret) *catalog.KeyRing {
	t.Helper()
	var text string
	for _, key := range keys {
		text += key.Reveal() + "\n"
	}
	made, err := catalog.NewKeyRing(address.NewSecret(text))
	require.NoError(t, err)
	return made
}

func (r rotation) keys(ring *catalog.KeyRing) *catalog.Keys { return catalog.NewKeys(r.pool, ring) }

// seals is how many values each key seals.
func (r rotation) seals(t testing.TB) map[string]int {
	t.Helper()
	uses, err := r.keys(nil).List(t.Context())
	require.NoError(t, err)
	seals := map[string]int{}
	for _, u := range uses {
		seals[u.ID] = u.Seals
	}
	return seals
}

func (r rotation) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// All five columns are sealed anew, the versions stay, and what one more rekey finds is
// nothing.
func TestRekey(t *testing.T) {
	t.Parallel()
	r := rotating(t, "a", "b", "c")
	for _, l := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
		require.NoError(t, r.Logins().SetDirect(t.Context(), "b", l, login("b_"+l.String(), "b")))
	}
	const versions = `SELECT string_agg(format('%s %s %s', name, col, version), ',' ORDER BY name, col) FROM headgate.sealed_values`
	var before, after string
	require.NoError(t, r.pool.QueryRow(t.Context(), versions).Scan(&before))

	dry, err := r.keys(r.both).Rekey(t.Context(), catalog.RekeyParams{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, catalog.Rekeyed{Key: "k2", Values: 11, Sealed: 11, Bad: []catalog.BadSeal{}, DryRun: true}, dry)
	require.Equal(t, map[string]int{"k1": 11}, r.seals(t), "a dry run writes nothing")

	done, err := r.keys(r.both).Rekey(t.Context(), catalog.RekeyParams{})
	require.NoError(t, err)
	require.Equal(t, catalog.Rekeyed{Key: "k2", Values: 11, Sealed: 11, Bad: []catalog.BadSeal{}}, done)
	require.Equal(t, map[string]int{"k1": 0, "k2": 11}, r.seals(t))
	require.NoError(t, r.pool.QueryRow(t.Context(), versions).Scan(&after))
	require.Equal(t, before, after, "workers tell connections apart by the version")
	verified, err := r.keys(ring(t, r.k2)).Verify(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, catalog.Verified{Values: 11, Opened: 11, Bad: []catalog.BadSeal{}}, verified)

	again, err := r.keys(r.both).Rekey(t.Context(), catalog.RekeyParams{})
	require.NoError(t, err)
	require.Equal(t, catalog.Rekeyed{Key: "k2", Bad: []catalog.BadSeal{}}, again)
}

// One value that cannot be opened and one row that somebody holds stop none of the
// others, and both are named.
func TestRekeyPassesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	r := rotating(t, "bad", "free", "held", "odd")
	r.exec(t, `UPDATE headgate.databases SET job_login = set_byte(job_login, length(job_login) - 1, 255 - get_byte(job_login, length(job_login) - 1)) WHERE name = 'bad'`)
	r.exec(t, `UPDATE headgate.databases SET owner_login = '\x01ff00fe' WHERE name = 'odd'`)
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM headgate.databases WHERE name = 'held' FOR UPDATE`)
	require.NoError(t, err)

	done, err := r.keys(r.both).Rekey(t.Context(), catalog.RekeyParams{Patience: time.Millisecond, Names: 3})
	require.NoError(t, err)
	require.Len(t, done.Bad, 3, "no more are named than was asked for")
	done.Bad = nil
	require.Equal(t, catalog.Rekeyed{Key: "k2", Values: 12, Sealed: 7, Failed: 2, Locked: 3}, done)

	require.NoError(t, tx.Rollback(t.Context()))
	done, err = r.keys(r.both).Rekey(t.Context(), catalog.RekeyParams{Names: 10})
	require.NoError(t, err)
	named := map[string]string{}
	for _, b := range done.Bad {
		named[b.Table+" "+b.Name+" "+b.Column] = b.Error
	}
	require.Equal(t, map[string]string{
		"databases bad job_login":   "it is not what was sealed for this row, column and version, or another key of the same id has sealed it",
		"databases odd owner_login": "it is not what was sealed for this row, column and version, or another key of the same id has sealed it",
	}, named)
	require.Equal(t, 3, done.Sealed)
}

// A row that is released while a rekey tries again is done by the same rekey.
func TestRekeyWaitsForAHeldRow(t *testing.T) {
	t.Parallel()
	r := rotating(t, "held")
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM headgate.databases FOR UPDATE`)
	require.NoError(t, err)
	released := false
	done, err := r.keys(r.both).Rekey(t.Context(), catalog.RekeyParams{Patience: time.Minute, Progress: func(so catalog.Rekeyed) {
		if so.Locked > 0 && !released {
			released = true
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}})
	require.NoError(t, err)
	require.True(t, released)
	require.Equal(t, 3, done.Sealed)
	require.Zero(t, done.Locked)
}

// Logins that are replaced while everything is sealed anew stay replaced.
func TestRekeyOverwritesNoNewerAddress(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d"}
	r := rotating(t, names...)
	ctx := t.Context()
	var stop atomic.Bool
	var rounds atomic.Int64
	last := map[string]string{}
	var writers sync.WaitGroup
	var mu sync.Mutex
	for i, name := range names {
		own := catalog.New(r.pool, []*catalog.KeyRing{r.old, r.both}[i%2]) // old processes write too
		writers.Go(func() {
			for n := 0; !stop.Load(); n++ {
				a := login(name+"_job", name)
				a.Password = address.NewSecret(fmt.Sprint(planted, name, n))
				if err := own.Logins().Set(ctx, name, jobs.LoginJob, a); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				last[name] = a.Password.Reveal()
				mu.Unlock()
				rounds.Add(1)
			}
		})
	}
	for range 20 {
		_, err := r.keys(r.both).Rekey(ctx, catalog.RekeyParams{Patience: time.Millisecond})
		require.NoError(t, err)
	}
	stop.Store(true)
	writers.Wait()
	require.Greater(t, rounds.Load(), int64(len(names)))
	for _, name := range names {
		place, err := catalog.New(r.pool, r.both).ResolveDatabase(ctx, name, jobs.LoginJob)
		require.NoError(t, err)
		a, err := place.Open(ctx)
		require.NoError(t, err)
		require.Equal(t, last[name], a.Password.Reveal())
	}
}

// The same step by step: a value that was read, and is another one when it is to be
// sealed anew.
func TestResealLeavesWhatHasChanged(t *testing.T) {
	t.Parallel()
	r := rotating(t, "a")
	reseal := func(was, becomes []byte) (done []int64) {
		require.NoError(t, r.pool.QueryRow(t.Context(), `
SELECT headgate.reseal(ARRAY['databases'], ARRAY['job_login'], (SELECT array_agg(id) FROM headgate.databases), ARRAY[$1::bytea], ARRAY[$2::bytea])`, was, becomes).Scan(&done))
		return done
	}
	now := func() (sealed []byte) {
		require.NoError(t, r.pool.QueryRow(t.Context(), `SELECT job_login FROM headgate.databases`).Scan(&sealed))
		return sealed
	}
	was := now()
	require.NoError(t, r.Logins().Set(t.Context(), "a", jobs.LoginJob, login("a_job", "a")))
	newer := now()
	require.Empty(t, reseal(was, was))
	require.Equal(t, newer, now())
	require.Equal(t, []int64{1}, reseal(newer, was), "the control")
	require.Equal(t, was, now())
}

// The list of sealed columns is whole: every column of bytes is in it, and the trigger
// that refuses retired keys looks at it.
func TestSealedColumnsAreListed(t *testing.T) {
	t.Parallel()
	r := rotating(t, "a")
	ctx := t.Context()
	for _, l := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
		require.NoError(t, r.Logins().SetDirect(ctx, "a", l, login("a_"+l.String(), "a")))
	}
	read := login("a_job", "a")
	read.Port = 6001
	require.NoError(t, r.Logins().SetRead(ctx, "a", read))
	_, _, err := r.hold(t, "new").Begin(ctx, r.old, intended("new"))
	require.NoError(t, err)
	ask := func(sql string) []string {
		rows, err := r.pool.Query(ctx, sql)
		require.NoError(t, err)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	columns := ask(`
SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = 'headgate' AND c.udt_name = 'bytea' AND t.table_type = 'BASE TABLE'
AND c.table_name || '.' || c.column_name <> 'idempotency_keys.args_hash' ORDER BY 1`) // which is not sealed
	require.NotEmpty(t, columns)
	require.Equal(t, columns, ask(`SELECT DISTINCT tab || '.' || col FROM headgate.sealed_values ORDER BY 1`), "headgate.sealed_values")
	for _, event := range []string{"inserted", "updated"} {
		require.Equal(t, columns, ask(`
SELECT c.relname || '.' || arg FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid,
       unnest(string_to_array(encode(t.tgargs, 'escape'), '\000')) AS arg
WHERE t.tgfoid = 'headgate.check_seals'::regproc AND arg <> '' AND t.tgenabled = 'O' AND t.tgname = 'check_seals_`+event+`' ORDER BY 1`), event)
	}
}

// P17: of 1,000 sealed values that are put in another's place, none opens.
func TestSwappedValuesDoNotOpen(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("db%d", i))
	}
	r := rotating(t, names...)
	ctx := t.Context()
	type value struct {
		owner   uuid.UUID
		col     string
		version int
		sealed  []byte
	}
	read := func() []value {
		rows, err := r.pool.Query(ctx, `SELECT owner, col, version, sealed FROM headgate.sealed_values`)
		require.NoError(t, err)
		values, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v value, err error) {
			err = row.Scan(&v.owner, &v.col, &v.version, &v.sealed)
			return v, err
		})
		require.NoError(t, err)
		return values
	}
	all := read()
	for _, name := range names { // more columns, and later versions of the same ones
		for _, l := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
			require.NoError(t, r.Logins().Set(ctx, name, l, login(name+"_"+l.String(), name)))
			require.NoError(t, r.Logins().SetDirect(ctx, name, l, login(name+"_"+l.String(), name)))
		}
		read := login(name+"_job", name)
		read.Port = 6001
		require.NoError(t, r.Logins().SetRead(ctx, name, read))
	}
	now := read()
	all = append(all, now...)
	require.Len(t, now, 60)
	seed := rand.Uint64()
	t.Log("seed", seed)
	chance := rand.New(rand.NewPCG(seed, 1))
	for done := 0; done < 1000; {
		at, from := now[chance.IntN(len(now))], all[chance.IntN(len(all))]
		if at.owner == from.owner && at.col == from.col && at.version == from.version {
			continue
		}
		done++
		require.False(t, catalog.Opens(r.old, at.owner, at.col, at.version, from.sealed), "%v in the place of %v", from, at)
		require.True(t, catalog.Opens(r.old, at.owner, at.col, at.version, at.sealed), "the control")
	}

	// The same in the table: each row has its neighbour's logins.
	r.exec(t, `UPDATE headgate.databases d SET job_login = o.job_login, owner_login = d.owner_direct, owner_direct = o.owner_direct, job_direct = d.job_login, job_read = o.job_direct, signing_key = o.signing_key
FROM headgate.databases o WHERE o.name = 'db' || (substr(d.name, 3)::int + 1) % 10`)
	verified, err := r.keys(r.old).Verify(ctx, 5)
	require.NoError(t, err)
	require.Len(t, verified.Bad, 5)
	verified.Bad = nil
	require.Equal(t, catalog.Verified{Values: 60, Failed: 60}, verified)
}
