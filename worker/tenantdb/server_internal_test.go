package tenantdb

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A database that is being upgraded may be older than the program, and never newer.
func TestANewerSchemaIsRefusedAlsoWhileUpgrading(t *testing.T) {
	t.Parallel()
	_, newest := migrations.Versions()
	for _, c := range []struct {
		upgrading bool
		version   int
		fits      bool
	}{
		{true, 1, true}, {true, newest, true}, {true, newest + 1, false},
		{false, 1, false}, {false, newest, true}, {false, newest + 1, false},
	} {
		place := address.Place{DatabaseID: "d", Upgrading: c.upgrading}
		err := identify(place, nil, who{database: "d", version: c.version, serves: c.version}, nil)
		require.Equal(t, c.fits, err == nil, "%+v: %v", c, err)
	}
}

// A database that says that it is another's, in the same schema, is not worked in.
func TestADatabaseOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	_, newest := migrations.Versions()
	place := address.Place{DatabaseID: "d"}
	require.NoError(t, identify(place, nil, who{database: "d", version: newest, serves: newest}, nil))
	require.ErrorIs(t, identify(place, nil, who{database: "e", version: newest, serves: newest}, nil), ErrWrongDatabase)
	require.ErrorIs(t, identify(place, nil, who{version: newest, serves: newest}, nil), ErrWrongDatabase)
}

// There may be as many connections as the limit says; where claims decide, as the share;
// and when that has lapsed, as its firm part.
func TestHowManyConnectionsThereMayBe(t *testing.T) {
	t.Parallel()
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, c := range []struct {
		s    *server
		want int
	}{
		{&server{limit: 9, share: 4, firm: 2, until: later}, 9}, // no claim has said anything
		{&server{limit: 9, governed: true, share: 4, firm: 2, until: later}, 4},
		{&server{limit: 3, governed: true, share: 4, firm: 2, until: later}, 3},
		{&server{limit: 9, governed: true, share: 4, firm: 2, until: before}, 2},
		{&server{limit: 9, governed: true, share: 1, firm: 2, until: before}, 1},
	} {
		require.Equal(t, c.want, c.s.most())
	}
}

// A job that holds a connection to a server may not wait for another one of it.
func TestASecondConnectionIsRefused(t *testing.T) {
	t.Parallel()
	place := address.Place{DatabaseID: "d", Database: "d"}
	s := &server{name: "s", limit: 1, open: 1, openByKey: map[key]int{keyOf(place): 1}}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), heldKey{}, s))
	cancel() // it would wait for ever
	_, err := s.acquire(ctx, place)
	require.ErrorContains(t, err, "this job holds a connection to server s already")
	_, err = s.acquire(context.WithValue(ctx, heldKey{}, &server{}), place)
	require.ErrorContains(t, err, "no free connection to server s in time", "one of another server is no reason")
}

// A connection that was made to an address of before is not lent any more.
func TestAConnectionOfAnOlderAddressIsNotLent(t *testing.T) {
	t.Parallel()
	place := address.Place{DatabaseID: "d", Version: 2}
	older, newer, other := &Conn{key: keyOf(place), version: 1}, &Conn{key: keyOf(place), version: 2}, &Conn{key: key{database: "e"}, version: 2}
	s := &server{idle: []*Conn{newer, other, older}}
	require.Same(t, newer, s.takeIdle(keyOf(place), 2))
	require.Nil(t, s.takeIdle(keyOf(place), 2))
	require.Equal(t, []*Conn{other, older}, s.idle)
}
