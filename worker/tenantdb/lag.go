package tenantdb

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/jobs"
)

// How old the rows of a replica are is judged by positions in the log alone, and by this
// process's own clock. The primary says how far its log is flushed at a moment. A replica
// that has replayed that far has everything that was committed before that moment, so its
// rows are no older than the moment. This needs no clock of a server, no right that a job
// login lacks, and no word of the replica about its own receiver:
//
//   - An idle primary's log stands still, and a replica that has all of it is not behind.
//   - A replica that is cut off is not behind either, while its primary writes nothing. The
//     first flushed commit moves the log, and from then on the replica is behind.
//   - A primary that cannot be asked moves no moment: the rows grow older with the time.
//
// A commit with synchronous_commit off counts from when its server flushes it.

// logPosition is what a primary has said of its log at a moment.
type logPosition struct {
	at       time.Time // a moment before the primary answered, by this process's clock
	lsn      int64
	system   int64 // the identifier of the database cluster, which its replicas share
	timeline int64 // rises when a replica becomes a primary
}

// replayed is what a server at a read address has said of itself.
type replayed struct {
	recovering bool // it is a replica
	lsn        int64
	system     int64
	timeline   int64 // of its last restart point, or what it has needed since; a promotion may show late
}

// maxPositions bounds what is remembered of a primary.
const maxPositions = 64

// positions are those of one primary, the oldest first. The older they are the further they
// are apart.
type positions []logPosition

// add returns the positions with one more. Those of another history are forgotten.
func (p positions) add(now logPosition) positions {
	if n := len(p); n > 0 && (p[n-1].system != now.system || p[n-1].timeline != now.timeline || p[n-1].lsn > now.lsn) {
		p = nil
	}
	if n := len(p); n > 0 && p[n-1].lsn == now.lsn {
		p[n-1].at = now.at // nothing was written between the two
		return p
	}
	if len(p) >= maxPositions {
		p = p.thin(now.at)
	}
	return append(p, now)
}

// thin takes out the position that leaves the smallest gap for its age, so that lags of
// every size can be told.
func (p positions) thin(now time.Time) positions {
	out, least := 1, math.Inf(1)
	for i := 1; i < len(p)-1; i++ {
		if gap := float64(p[i+1].at.Sub(p[i-1].at)) / float64(now.Sub(p[i].at)); gap < least {
			out, least = i, gap
		}
	}
	return slices.Delete(p, out, out+1)
}

// lag is how old the rows of a replica are at most. known is false if no position that is
// remembered has been replayed. The error matches ErrNoReplica.
func (p positions) lag(r replayed, now time.Time) (lag time.Duration, known bool, err error) {
	if !r.recovering {
		return 0, false, fmt.Errorf("%w: it takes writes, so it was promoted, or never was a replica", ErrNoReplica)
	}
	if len(p) == 0 {
		return 0, false, nil
	}
	switch last := p[len(p)-1]; {
	case last.system != r.system:
		return 0, false, fmt.Errorf("%w: it belongs to another database cluster than the primary", ErrNoReplica)
	case last.timeline != r.timeline:
		return 0, false, fmt.Errorf("%w: it is on timeline %d and the primary on timeline %d; a replica that follows a new primary shows that with its next restart point, within checkpoint_timeout",
			ErrNoReplica, r.timeline, last.timeline)
	}
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].lsn <= r.lsn {
			return now.Sub(p[i].at), true, nil
		}
	}
	return 0, false, nil
}

// ErrNoReplica: a read address leads to a server that is no replica of the database's primary.
var ErrNoReplica = jobs.Sentinel("no_replica", "the server at the read address is no replica of the primary")

// LagError says that a replica is too far behind, or that nobody knows how far.
type LagError struct {
	Lag   time.Duration // how old its rows are at most; 0 where nobody knows
	Limit time.Duration
	Err   error // why the primary could not be asked; nil if it was
}

// Error is one sentence.
func (e *LagError) Error() string {
	switch {
	case e.Lag == 0 && e.Err != nil:
		return fmt.Sprintf("how far the replica is behind is unknown, because its primary could not be asked: %v", e.Err)
	case e.Lag == 0:
		return fmt.Sprintf("the replica has not replayed what its primary had when this process asked first; its rows may be older than %s", e.Limit)
	case e.Err != nil:
		return fmt.Sprintf("the replica's rows may be %s old, and %s is allowed; its primary could not be asked since: %v", e.Lag.Round(100*time.Millisecond), e.Limit, e.Err)
	}
	return fmt.Sprintf("the replica's rows may be %s old, and %s is allowed", e.Lag.Round(100*time.Millisecond), e.Limit)
}

// Unwrap returns the cause.
func (e *LagError) Unwrap() error { return e.Err }

// within judges what was found. asked is why the primary could not be asked, or nil.
func (p positions) within(r replayed, limit time.Duration, asked error, now time.Time) (time.Duration, error) {
	lag, known, err := p.lag(r, now)
	if err == nil && (!known || lag > limit) {
		err = &LagError{Lag: lag, Limit: limit, Err: asked}
	}
	return lag, err
}

// mayCatchUp says of an error whether the replica may catch up in a moment.
func mayCatchUp(err error) bool { return errors.As(err, new(*LagError)) }
