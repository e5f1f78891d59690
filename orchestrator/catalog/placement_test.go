package catalog_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func (b bundle) takes(t testing.TB, database string, most int, plans ...string) {
	t.Helper()
	room := catalog.Room{MaxTenants: &most}
	if plans != nil {
		room.Plans = &plans
	}
	_, err := b.Hosting().SetRoom(t.Context(), database, room)
	require.NoError(t, err)
}

func (b bundle) loads(t testing.TB) map[string]int {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `SELECT d.name, count(t.id) FROM headgate.databases d LEFT JOIN headgate.tenants t ON t.database_id = d.id GROUP BY d.name`)
	require.NoError(t, err)
	defer rows.Close()
	loads := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		require.NoError(t, rows.Scan(&name, &n))
		loads[name] = n
	}
	require.NoError(t, rows.Err())
	return loads
}

func TestATenantWithoutADatabaseIsPlaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	add := func(slug, plan, database string) (string, error) {
		tenant, err := b.AddTenant(ctx, catalog.TenantParams{Slug: slug, Plan: plan, Database: database})
		return tenant.Database, err
	}
	b.addServer(t)
	_, err := add("none", "", "")
	require.EqualError(t, err, "add tenant: there is no shared database on an open server to choose from: name a database, or `headgate database create NAME --server SERVER --kind shared` makes one")
	for _, name := range []string{"one", "two", "vip"} {
		b.addDatabase(t, name, catalog.KindShared)
	}
	b.addDatabase(t, "own", catalog.KindDedicated)
	b.takes(t, "one", 2, "free")
	b.takes(t, "two", 3, "free", "")
	b.takes(t, "vip", 0, "pro")
	for i, want := range []string{"one", "two", "one", "two", "two"} {
		got, err := add(fmt.Sprintf("t%d", i), "free", "")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = add("late", "free", "")
	require.ErrorIs(t, err, catalog.ErrFull)
	require.EqualError(t, err, "add tenant: every shared database that takes plan \"free\" is full, the fullest is two with 3 of 3 tenants: `headgate database set two --max-tenants N` raises that, `headgate database create NAME --server SERVER --kind shared` makes another")
	_, err = add("named", "free", "one")
	require.ErrorIs(t, err, catalog.ErrFull)
	require.ErrorContains(t, err, "database one takes 2 tenants, and would have 3: `headgate database set one --max-tenants N`")
	_, err = add("named", "pro", "one")
	require.ErrorIs(t, err, catalog.ErrFull)
	_, err = add("gold", "gold", "")
	require.EqualError(t, err, "add tenant: no shared database takes plan \"gold\": `headgate database set one --plan free --plan gold` lets the plan in, `headgate database create NAME --server SERVER --kind shared` makes another")
	_, err = add("gold", "gold", "vip")
	require.ErrorContains(t, err, "database vip takes no tenant of plan 'gold'")
	got, err := add("p", "pro", "")
	require.NoError(t, err)
	require.Equal(t, "vip", got)
	b.takes(t, "one", 5)
	got, err = add("late", "free", "")
	require.NoError(t, err)
	require.Equal(t, "one", got)
	_, err = b.Hosting().Drain(ctx, "main", catalog.Decision{})
	require.NoError(t, err)
	_, err = add("later", "free", "")
	require.ErrorIs(t, err, catalog.ErrFull, "nobody is placed on a server that drains")
}

// Many writers, by this package and by SQL, never pass the bound of a database.
func TestConcurrentAddsKeepToTheBounds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	bounds := map[string]int{"one": 4, "two": 7, "three": 9}
	for name, most := range bounds {
		b.addDatabase(t, name, catalog.KindShared)
		b.takes(t, name, most)
	}
	var placed, refused atomic.Int32
	var group sync.WaitGroup
	for w := range 6 {
		group.Go(func() {
			for i := range 6 {
				slug := fmt.Sprintf("w%d-%d", w, i)
				var err error
				if w%3 == 0 { // as a person with psql does
					_, err = b.pool.Exec(t.Context(), `INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind)
						SELECT gen_random_uuid(), $1, $2, $2, id, kind FROM headgate.databases WHERE name = 'three'`, 1000+10*w+i, slug)
				} else {
					_, err = b.AddTenant(t.Context(), catalog.TenantParams{Slug: slug})
				}
				if err == nil {
					placed.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	group.Wait()
	loads, sum := b.loads(t), 0
	for name, most := range bounds {
		require.LessOrEqual(t, loads[name], most, "%v", loads)
		sum += loads[name]
	}
	require.EqualValues(t, placed.Load(), sum)
	for { // what is left is filled
		_, err := b.AddTenant(t.Context(), catalog.TenantParams{Slug: fmt.Sprintf("fill-%d", sum)})
		if errors.Is(err, catalog.ErrFull) {
			break
		}
		require.NoError(t, err)
		sum++
	}
	require.Equal(t, bounds, b.loads(t))
}

// Ten thousand are placed in one statement, evenly beside those that are there.
func TestTenThousandArePlaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	for i := range 20 {
		b.addDatabase(t, fmt.Sprintf("d%02d", i), catalog.KindShared)
	}
	params := make([]catalog.TenantParams, 10_000)
	for i := range params {
		params[i].Slug = fmt.Sprintf("t%d", i)
	}
	params[0].Database, params[1].Database = "d07", "d07"
	tenants, err := b.AddTenants(t.Context(), params)
	require.NoError(t, err)
	require.Equal(t, "d07", tenants[0].Database)
	for name, n := range b.loads(t) {
		require.Equal(t, 500, n, name)
	}
}
