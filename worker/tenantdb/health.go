package tenantdb

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// errTooShort: the caller's time was up so soon after the attempt began (most of
// it went by in the line for the budget, say) that the server cannot be blamed.
var errTooShort = errors.New("its time was nearly up when the connection was begun")

// enough is how long a server must have been silent for that to count.
const enough = 500 * time.Millisecond

// admit asks the breakers, the database's and the server's. If it returns nil,
// exactly one call of heard must follow.
func (s *server) admit(place address.Place, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own := s.failing[place.DatabaseID]; own != nil {
		if !own.admit(now) {
			return own.refusal(place, "database "+place.Database, now)
		}
		if s.breaker.admit(now) {
			return nil
		}
		own.abandoned()
	} else if s.breaker.admit(now) {
		return nil
	}
	return s.breaker.refusal(place, "server "+s.name, now)
}

// event is what there is to tell after a connection attempt.
type event string

const (
	serverSilent   event = "server does not answer"
	serverAnswers  event = "server answers again"
	serverFull     event = "server full"
	databaseSilent event = "database does not answer"
	databaseThere  event = "database answers again"
)

// heard notes how an admitted connection attempt ended, and returns what there
// is to tell, or "". One database that fails may be itself to blame, or its
// address; the server's breaker counts only while several fail in a row.
func (s *server) heard(place address.Place, now time.Time, err error) event {
	s.mu.Lock()
	defer s.mu.Unlock()
	class, _ := Classify(err)
	silent := class == jobs.ClassUnreachable || class == jobs.ClassConnectTimeout
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errTooShort): // that says nothing about the server
		s.breaker.abandoned()
		if own := s.failing[place.DatabaseID]; own != nil {
			own.abandoned()
		}
		return ""
	case class == jobs.ClassServerFull && !ownLimit(err):
		s.limit = max(s.limit/2, 1)
	case err == nil:
		s.limit = min(s.limit+1, s.budget)
		s.grow()
	}
	own := s.failed(place, now, silent, err)
	var all event
	switch {
	case !silent: // whatever the error, the server answers
		if s.breaker.succeeded(s.limit) {
			all = serverAnswers
		}
	case s.breaker.open() || len(s.failing) > 1:
		if s.breaker.failed(now, err) {
			all = serverSilent
		}
	}
	switch {
	case class == jobs.ClassServerFull && !ownLimit(err):
		return serverFull
	case s.breaker.open(): // that has been told
		return all
	}
	return cmp.Or(all, own)
}

// ownLimit says of a refusal for want of connections that the limit is the
// login's or the database's (CONNECTION LIMIT), so that the server may have room
// for others. All three have one SQLSTATE, and words in the server's language:
// what tells them apart is the place in Postgres's source.
func ownLimit(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Routine == "InitializeSessionUserId" || refused.Routine == "CheckMyDatabase")
}

// failed notes in the database's own breaker whether it answers.
func (s *server) failed(place address.Place, now time.Time, silent bool, err error) event {
	own := s.failing[place.DatabaseID]
	switch {
	case silent && own == nil:
		own = &breaker{}
		s.failing[place.DatabaseID] = own
		fallthrough
	case silent:
		if own.failed(now, err) {
			return databaseSilent
		}
	case own != nil:
		closed := own.succeeded(s.limit)
		if !own.open() && own.trying == 0 {
			delete(s.failing, place.DatabaseID)
		}
		if closed {
			return databaseThere
		}
	}
	return ""
}
