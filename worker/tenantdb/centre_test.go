package tenantdb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
)

// aCentre is a Centre that judges as a test says.
type aCentre struct {
	now   tenantdb.Mark
	judge func(found tenantdb.Mark) (tenantdb.Mark, error)
}

func (c *aCentre) Now() tenantdb.Mark { return c.now }

func (c *aCentre) Judge(_ context.Context, _ string, found tenantdb.Mark) (tenantdb.Mark, error) {
	return c.judge(found)
}

// A mark that another connection changes while it is judged is looked at again: of many
// jobs that meet an adopted database at once all go on.
func TestAMarkThatChangesWhileItIsJudged(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := &aCentre{now: tenantdb.Mark{Centre: "ours", Token: "1.a"}}
	_, db, pools, place := setup(t, tenantdb.Config{Centre: c})
	adopted := func() {
		_, err := db.Pool.Exec(ctx, `UPDATE headgate.identity SET centre = 'ours', token = '1.a'`)
		require.NoError(t, err)
	}
	_, err := db.Pool.Exec(ctx, `UPDATE headgate.identity SET centre = 'theirs'`)
	require.NoError(t, err)
	asked := 0
	c.judge = func(found tenantdb.Mark) (tenantdb.Mark, error) {
		if asked++; found.Centre == "ours" {
			return tenantdb.Mark{}, nil
		}
		adopted()
		return tenantdb.Mark{}, tenantdb.ErrWrongCentre
	}
	use := func(context.Context, *tenantdb.Conn) error { return nil }
	require.NoError(t, pools.With(ctx, place, use))
	require.Equal(t, 2, asked)

	// As it is about to be left.
	_, err = db.Pool.Exec(ctx, `UPDATE headgate.identity SET centre = 'ours', token = '0.a'`)
	require.NoError(t, err)
	c.now = tenantdb.Mark{Centre: "ours", Token: "2.a"}
	c.judge = func(found tenantdb.Mark) (tenantdb.Mark, error) {
		if asked++; found.Token == "0.a" {
			adopted()
		}
		return c.now, nil
	}
	require.NoError(t, pools.With(ctx, place, use))
	var token string
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT token FROM headgate.identity`).Scan(&token))
	require.Equal(t, "2.a", token)
	require.Equal(t, 5, asked, "twice before it was left, and once to tell of it")
}

// A centre that could not be told that a database bears its mark is told by the next
// connection. Until then the decision to take the database is open, and would hold a
// second time.
func TestACentreThatWasNotToldIsToldAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := &aCentre{now: tenantdb.Mark{Centre: "ours", Token: "1.a"}}
	_, db, pools, place := setup(t, tenantdb.Config{Centre: c})
	_, err := db.Pool.Exec(ctx, `UPDATE headgate.identity SET centre = 'theirs'`)
	require.NoError(t, err)
	told, away := 0, errors.New("the central database is away")
	c.judge = func(found tenantdb.Mark) (tenantdb.Mark, error) {
		if found.Centre == "theirs" {
			return c.now, nil
		}
		if told++; told == 1 {
			return tenantdb.Mark{}, away
		}
		return tenantdb.Mark{}, nil
	}
	use := func(context.Context, *tenantdb.Conn) error { return nil }
	require.ErrorIs(t, pools.With(ctx, place, use), away)
	require.NoError(t, pools.With(ctx, place, use))
	require.Equal(t, 2, told)
}

// A kept connection is asked again when its last look is CentreFor ago, or the token has
// changed, and not for each job.
func TestAKeptConnectionIsAskedAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ours := tenantdb.Mark{Centre: "ours", Token: "1.a"}
	for name, c := range map[string]struct {
		every time.Duration
		next  tenantdb.Mark // which counts after the first job
		wrong bool
	}{
		"a moment":    {time.Hour, ours, false},
		"some time":   {time.Nanosecond, ours, true},
		"a new token": {time.Hour, tenantdb.Mark{Centre: "ours", Token: "2.a"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			centre := &aCentre{now: ours}
			centre.judge = func(found tenantdb.Mark) (tenantdb.Mark, error) {
				if found.Centre == "theirs" {
					return tenantdb.Mark{}, tenantdb.ErrWrongCentre
				}
				return centre.now, nil
			}
			_, db, pools, place := setup(t, tenantdb.Config{Centre: centre, CentreFor: c.every, IdleTimeout: time.Minute})
			use := func(context.Context, *tenantdb.Conn) error { return nil }
			require.NoError(t, pools.With(ctx, place, use))
			_, err := db.Pool.Exec(ctx, `UPDATE headgate.identity SET centre = 'theirs'`)
			require.NoError(t, err)
			centre.now = c.next
			err = pools.With(ctx, place, use)
			if !c.wrong {
				require.NoError(t, err)
				return
			}
			class, _ := tenantdb.Classify(err)
			require.Equal(t, jobs.ClassWrongCentre, class)
			require.ErrorContains(t, err, "headgate central adopt --database acme")
			require.Eventually(t, func() bool { return pools.Open() == 0 }, time.Minute, time.Millisecond, "it is closed")
		})
	}
}
