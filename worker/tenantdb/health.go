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
	a, at := s.of(place), ""
	if place.Reading {
		at = "the read address of "
	}
	if own := a.failing[place.DatabaseID]; own != nil {
		if !own.admit(now) {
			return own.refusal(place, at+"database "+place.Database, now)
		}
		if a.breaker.admit(now) {
			return nil
		}
		own.abandoned()
	} else if a.breaker.admit(now) {
		return nil
	}
	return a.breaker.refusal(place, at+"server "+s.name, now)
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

const (
	readsSilent event = "read addresses do not answer"
	readsThere  event = "read addresses answer again"
	readSilent  event = "read address does not answer"
	readThere   event = "read address answers again"
)

// ofReads are the events of read addresses. A replica that is full says nothing about the
// server's budget.
var ofReads = map[event]event{serverSilent: readsSilent, serverAnswers: readsThere, databaseSilent: readSilent, databaseThere: readThere}

// heard notes how an admitted connection attempt ended, and returns what there
// is to tell, or "". One database that fails may be itself to blame, or its
// address; the server's breaker counts only while several fail in a row.
func (s *server) heard(place address.Place, now time.Time, err error) event {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of(place)
	class, _ := Classify(err)
	silent := class == jobs.ClassUnreachable || class == jobs.ClassConnectTimeout || place.Reading && class == jobs.ClassServerFull
	full := class == jobs.ClassServerFull && !ownLimit(err) && !place.Reading
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errTooShort): // that says nothing about the server
		a.breaker.abandoned()
		if own := a.failing[place.DatabaseID]; own != nil {
			own.abandoned()
		}
		return ""
	case full:
		s.limit = max(s.limit/2, 1)
	case err == nil && !place.Reading:
		s.limit = min(s.limit+1, s.budget)
		s.grow()
	}
	own := a.failed(place, now, silent, s.limit, err)
	var all event
	switch {
	case !silent: // whatever the error, the server answers
		if a.breaker.succeeded(s.limit) {
			all = serverAnswers
		}
	case a.breaker.open() || len(a.failing) > 1:
		if a.breaker.failed(now, err) {
			all = serverSilent
		}
	}
	if full {
		return serverFull
	}
	if !a.breaker.open() { // else that has been told
		all = cmp.Or(all, own)
	}
	if place.Reading {
		return ofReads[all]
	}
	return all
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
func (a *answers) failed(place address.Place, now time.Time, silent bool, limit int, err error) event {
	own := a.failing[place.DatabaseID]
	switch {
	case silent && own == nil:
		own = &breaker{}
		a.failing[place.DatabaseID] = own
		fallthrough
	case silent:
		if own.failed(now, err) {
			return databaseSilent
		}
	case own != nil:
		closed := own.succeeded(limit)
		if !own.open() && own.trying == 0 {
			delete(a.failing, place.DatabaseID)
		}
		if closed {
			return databaseThere
		}
	}
	return ""
}
