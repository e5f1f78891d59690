package tenantdb

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// after is a moment, so many seconds after another.
func after(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func TestLag(t *testing.T) {
	log := func(lsns ...int64) (p positions) { // one a second
		for i, lsn := range lsns {
			p = p.add(logPosition{at: after(float64(i)), lsn: lsn, system: 7, timeline: 1})
		}
		return p
	}
	replica := replayed{recovering: true, lsn: 100, system: 7, timeline: 1}
	other := func(change func(*replayed)) replayed {
		r := replica
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		log     positions
		replica replayed
		lag     time.Duration
		known   bool
		err     string
	}{
		"all of it":                                  {log(80, 90, 100), replica, 8 * time.Second, true, ""},
		"more than the primary's last":               {log(80, 90, 99), replica, 8 * time.Second, true, ""},
		"what was so a second before":                {log(80, 100, 101), replica, 9 * time.Second, true, ""},
		"an idle primary":                            {log(100, 100, 100, 100, 100), replica, 6 * time.Second, true, ""},
		"idle, and cut off just before":              {log(101, 101, 101), replica, 0, false, ""},
		"nobody has asked the primary":               {nil, replica, 0, false, ""},
		"promoted":                                   {log(100), other(func(r *replayed) { r.recovering = false }), 0, false, "it was promoted"},
		"promoted, and nobody has asked the primary": {nil, other(func(r *replayed) { r.recovering = false }), 0, false, "it was promoted"},
		"another cluster":                            {log(100), other(func(r *replayed) { r.system = 8 }), 0, false, "another database cluster"},
		"of a former primary":                        {log(100), other(func(r *replayed) { r.timeline = 0 }), 0, false, "on timeline 0 and the primary on timeline 1"},
		"of a replica that became":                   {log(100), other(func(r *replayed) { r.timeline = 2 }), 0, false, "on timeline 2 and the primary on timeline 1"},
	} {
		lag, known, err := c.log.lag(c.replica, after(10))
		require.Equal(t, c.known, known, name)
		require.Equal(t, c.lag, lag, name)
		if c.err == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, ErrNoReplica, name)
		require.ErrorContains(t, err, c.err, name)
	}
}

// What was asked of a former primary says nothing about the new one, whose positions may be
// lower and have higher times.
func TestPositionsAreOfOneHistory(t *testing.T) {
	var p positions
	p = p.add(logPosition{at: after(0), lsn: 100, system: 7, timeline: 1})
	for _, next := range []logPosition{
		{at: after(1), lsn: 200, system: 7, timeline: 2}, {at: after(1), lsn: 200, system: 8, timeline: 1}, {at: after(1), lsn: 50, system: 7, timeline: 1},
	} {
		require.Equal(t, positions{next}, append(positions(nil), p...).add(next))
	}
}

func TestWhatTheLagErrorSays(t *testing.T) {
	p := positions{{at: after(0), lsn: 100, system: 7, timeline: 1}}
	replica := replayed{recovering: true, lsn: 100, system: 7, timeline: 1}
	away := errors.New("the primary is away")
	lag, err := p.within(replica, 10*time.Second, nil, after(10))
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, lag)
	_, err = p.within(replica, 10*time.Second, nil, after(10.5))
	require.EqualError(t, err, "the replica's rows may be 10.5s old, and 10s is allowed")
	_, err = p.within(replica, 10*time.Second, away, after(11))
	require.EqualError(t, err, "the replica's rows may be 11s old, and 10s is allowed; its primary could not be asked since: the primary is away")
	require.ErrorIs(t, err, away)
	_, err = positions(nil).within(replica, 10*time.Second, away, after(11))
	require.EqualError(t, err, "how far the replica is behind is unknown, because its primary could not be asked: the primary is away")
	replica.lsn = 99
	_, err = p.within(replica, 10*time.Second, nil, after(1))
	require.ErrorContains(t, err, "has not replayed what its primary had")
	var lagging *LagError
	require.ErrorAs(t, err, &lagging)
}

// Whatever the primary writes and the replica replays, and whenever the primary is asked: a
// replica that is called so old lacks nothing that was older. What is remembered is bounded.
func TestLagIsNeverTooLow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log positions
		written := []float64{0} // when each byte of the log was flushed
		replica := replayed{recovering: true, system: 7, timeline: 1}
		now := 0.0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			now += rapid.Float64Range(0.01, 3).Draw(t, "time")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				for range rapid.IntRange(1, 3).Draw(t, "bytes") {
					written = append(written, now)
				}
			case 1:
				asked := now
				now += rapid.Float64Range(0, 1).Draw(t, "answer")
				log = log.add(logPosition{at: after(asked), lsn: int64(len(written)), system: 7, timeline: 1})
			case 2:
				replica.lsn += rapid.Int64Range(0, int64(len(written))-replica.lsn).Draw(t, "replayed")
			}
			require.LessOrEqual(t, len(log), maxPositions)
			lag, known, err := log.lag(replica, after(now))
			require.NoError(t, err)
			if lacks := int(replica.lsn); known && lacks < len(written) {
				missing := after(now).Sub(after(written[lacks]))
				require.LessOrEqual(t, missing, lag+time.Microsecond, "a byte is missing that was flushed %s ago", missing)
			}
		}
	})
}

// However long a primary is asked, a lag of every size is told within a third too high.
func TestPositionsReachFarBack(t *testing.T) {
	var log positions
	const last = 100_000
	for i := range last + 1 {
		log = log.add(logPosition{at: after(float64(i)), lsn: int64(i), system: 7, timeline: 1})
	}
	for _, behind := range []int64{1, 10, 100, 1000, 10_000, 80_000} {
		lag, known, err := log.lag(replayed{recovering: true, lsn: last - behind, system: 7, timeline: 1}, after(last))
		require.NoError(t, err)
		require.True(t, known, behind)
		require.GreaterOrEqual(t, lag, time.Duration(behind)*time.Second)
		require.LessOrEqual(t, lag, time.Duration(behind)*time.Second*4/3+time.Second)
	}
}

// The breakers of read addresses and of write addresses do not know of each other.
func TestReadAddressesHaveTheirOwnBreakers(t *testing.T) {
	now, s := time.Now(), breakerServer()
	reading := func(database string) address.Place {
		p := at(database)
		p.Reading = true
		return p
	}
	fail := func(place func(string) address.Place) (events []event) {
		for _, name := range []string{"a", "b", "c", "d", "a", "b", "c", "d"} {
			if s.admit(place(name), now) == nil {
				if e := s.heard(place(name), now, unreachable(place(name))); e != "" {
					events = append(events, e)
				}
			}
		}
		return events
	}
	require.Equal(t, []event{readsSilent}, fail(reading))
	require.ErrorContains(t, s.admit(reading("a"), now), "the read address of")
	require.NoError(t, s.admit(at("a"), now), "the primary is asked on")
	require.Empty(t, s.heard(at("a"), now, nil))
	require.Equal(t, "closed", s.stats().Breaker)
	require.Error(t, s.admit(reading("a"), now), "what the primary does closes no breaker of a replica")

	s = breakerServer()
	require.Equal(t, []event{serverSilent}, fail(at))
	require.Error(t, s.admit(at("a"), now))
	require.NoError(t, s.admit(reading("a"), now), "the replica is asked on")

	s = breakerServer()
	full := &ConnectError{Class: jobs.ClassServerFull, Err: errors.New("sorry, too many clients already")}
	for range openAfter {
		require.NoError(t, s.admit(reading("a"), now))
		require.NotEqual(t, serverFull, s.heard(reading("a"), now, full))
	}
	require.Equal(t, 8, s.stats().Limit, "a full replica takes nothing from the primary's budget")
	require.Error(t, s.admit(reading("a"), now))
}

// A primary is asked by one caller at a time, and again when its last answer, or its silence,
// is a second old.
func TestAPrimaryIsAskedOnceASecond(t *testing.T) {
	p, now := &primaries{}, after(0)
	_, mine, _ := p.turn("one", now)
	require.NotNil(t, mine)
	_, others, busy := p.turn("one", now)
	require.Nil(t, others)
	require.NotNil(t, busy, "the others wait for the answer")
	_, apart, _ := p.turn("two", now)
	require.NotNil(t, apart, "another server")
	mine(logPosition{at: now, lsn: 1}, nil)
	<-busy
	known, mine, busy := p.turn("one", after(0.9))
	require.Nil(t, mine)
	require.Nil(t, busy)
	require.Len(t, known.log, 1)

	away := errors.New("away")
	_, mine, _ = p.turn("one", after(1))
	require.NotNil(t, mine)
	mine(logPosition{}, away)
	known, mine, _ = p.turn("one", after(1.5))
	require.Nil(t, mine, "silence counts too")
	require.ErrorIs(t, known.err, away)
	require.Len(t, known.log, 1, "and what it has said before stands")

	p.sweep(after(3600))
	require.Len(t, p.list, 2)
	apart(logPosition{at: now, lsn: 1}, nil)
	p.sweep(after(3602))
	require.Empty(t, p.list)
}
