package tenantdb

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Ticket is what a worker shows a tenant database to open a job there: the database
// verifies by the key that both share that the job is the worker's own
// (migrations/tenant/0012_signed_context.sql). It holds for five minutes.
type Ticket struct{ Text, MAC string }

// signer signs the tickets of one connection.
type signer struct {
	key   address.Secret
	ahead time.Duration // of the server's clock, when the connection was made
}

// newSigner opens the key of a place. clock is the server's at this moment.
func newSigner(ctx context.Context, place address.Place, clock time.Time) (signer, error) {
	if place.SigningKey == nil {
		return signer{}, nil
	}
	key, err := place.SigningKey(ctx)
	return signer{key: key, ahead: time.Until(clock)}, err
}

// Bearer is what a ticket says.
type Bearer struct {
	Org   int64  // the organisation; 0 where the job is the database's own
	Key   string // what the application calls the organisation, without vertical bars
	Brand string // the brand that the job is limited to, without vertical bars. "" is all
	UID   string // the job's
}

// Ticket signs for the database at the other end.
func (c *Conn) Ticket(b Bearer) Ticket {
	return SignTicket(c.signer.key, time.Now().Add(c.signer.ahead), b)
}

const serverClock = `SELECT pg_catalog.clock_timestamp()`

// SetClock asks the server for its time. That clock, or this machine's, may have been set since
// the connection was made, and the tickets would then be of another time.
func (c *Conn) SetClock(ctx context.Context) error {
	var clock time.Time
	err := c.QueryRow(ctx, serverClock).Scan(&clock)
	if err == nil {
		c.signer.ahead = time.Until(clock)
	}
	return err
}

// SignTicket signs with a database's key. at is the time by the server's clock.
func SignTicket(key address.Secret, at time.Time, b Bearer) Ticket {
	text := fmt.Sprintf("%d|%s|%d|%s|%s", b.Org, b.UID, at.Unix(), b.Brand, b.Key)
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write([]byte("ticket|" + text))
	return Ticket{Text: text, MAC: hex.EncodeToString(mac.Sum(nil))}
}
