package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// ErrWrongCentre: a tenant database belongs to another central database than this
// process's: one of the two is a copy, or this one was restored or moved.
var ErrWrongCentre = jobs.Sentinel("wrong_centre", "another central database works this database")

// Mark is what a tenant database knows its central database by. Both are "" where
// nothing is known.
type Mark struct {
	Centre string // which database on which server, with which catalog
	Token  string // one that the centre has made, without blanks
}

// Centre is the central database that a Pools works for. Its methods are safe for
// concurrent use.
type Centre interface {
	// Now is the mark to be left in tenant databases at present. It asks nobody.
	Now() Mark

	// Judge says what to do about a database that bears the mark found: nil, and the mark
	// to leave there (the zero Mark: none); or an error, which matches ErrWrongCentre if
	// the database belongs to another centre.
	Judge(ctx context.Context, databaseID string, found Mark) (leave Mark, err error)
}

// centreError: the centre could not be asked. That says nothing about the tenant's server.
type centreError struct{ error }

func (e *centreError) Unwrap() error { return e.error }

const leaveCentre = `SELECT headgate.leave_centre($1, $2, nullif($3, ''), nullif($4, ''), $5, nullif($6, ''))`

// noJob is in the ticket of a worker between two jobs.
const noJob = "00000000-0000-0000-0000-000000000000"

// looksAtMark bounds how often another connection may be faster.
const looksAtMark = 3

// centred sees that the database at the other end of a connection belongs to this
// process's centre, and leaves the centre's mark there where that is due. It returns the
// mark that was compared. What was found may have changed before it was judged, by
// another connection that has just left the mark, so a refusal is one of two equal looks.
func (p *Pools) centred(ctx context.Context, place address.Place, conn *Conn, found who) (Mark, error) {
	if p.cfg.Centre == nil || !found.marked {
		return Mark{}, nil
	}
	for range looksAtMark { // its own mark too, which the centre may not know to stand there
		leave, refused := p.cfg.Centre.Judge(ctx, place.DatabaseID, found.mark)
		switch {
		case refused == nil && (leave == Mark{} || place.Reading): // a replica has the mark that its primary has
			return p.cfg.Centre.Now(), nil
		case refused == nil:
			if left, err := p.leaveMark(ctx, place, conn, found.mark, leave); left || err != nil {
				return leave, err
			}
		case !errors.Is(refused, ErrWrongCentre):
			return Mark{}, &centreError{fmt.Errorf("asking the central database whose database %s is: %w", place.Database, refused)}
		}
		again, err := identity(ctx, place, conn.Conn)
		if err != nil {
			return Mark{}, err
		}
		if refused != nil && again.mark == found.mark {
			return Mark{}, fmt.Errorf("%w: see that no other one works it, then run `headgate central adopt --database %s`", refused, place.Database)
		}
		found = again
	}
	return Mark{}, nil // others leave their marks at this moment, or have locked the row; the next job looks again
}

// ForeignTicket is the SQLSTATE of a database that does not know its worker by its key, or
// whose clock is another than the worker takes it for.
const ForeignTicket = "HG004"

// leaveMark returns false if what was found does not stand there any more, or its row is
// locked. It returns false too where the connection is to install the key that the mark is
// signed with, because the connections behind that can leave the mark. A database that takes
// no writes keeps what it has: what a job does there does not last either.
func (p *Pools) leaveMark(ctx context.Context, place address.Place, conn *Conn, found, leave Mark) (left bool, err error) {
	ticket := conn.Ticket(Bearer{UID: noJob})
	err = conn.QueryRow(ctx, leaveCentre, pgx.QueryExecModeExec, ticket.Text, ticket.MAC, found.Centre, found.Token, leave.Centre, leave.Token).Scan(&left)
	switch pgErr := (*pgconn.PgError)(nil); {
	case errors.As(err, &pgErr) && pgErr.Code == "25006":
		return true, nil
	case errors.As(err, &pgErr) && pgErr.Code == ForeignTicket && place.Upgrading:
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("leaving the centre's mark in the database: %w", err)
	}
	if left { // the centre learns that it is done
		if _, err := p.cfg.Centre.Judge(ctx, place.DatabaseID, leave); err != nil {
			return false, &centreError{fmt.Errorf("telling the central database that database %s is its own: %w", place.Database, err)}
		}
	}
	return left, nil
}

// recheck looks again at a kept connection when the last look is some time ago, or the
// centre's token has changed since: somebody may have decided that the database is
// another centre's.
func (p *Pools) recheck(ctx context.Context, place address.Place, c *Conn) error {
	now := time.Now()
	if p.cfg.Centre == nil || c.centre == p.cfg.Centre.Now() && now.Sub(c.looked) < p.cfg.CentreFor {
		return nil
	}
	found, err := identity(ctx, place, c.Conn)
	if err == nil {
		c.centre, err = p.centred(ctx, place, c, found)
	}
	c.looked = now
	return err
}
