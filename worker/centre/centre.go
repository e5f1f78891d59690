package centre

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/lifecycle"
	"github.com/headgate/headgate/worker/tenantdb"
)

const (
	// Every is how often a Centre looks for a new token.
	Every = time.Minute

	// patience bounds one look.
	patience = 10 * time.Second
)

// Centre is the tenantdb.Centre of a central database. It is safe for concurrent use.
type Centre struct {
	pool     *pgxpool.Pool
	log      *slog.Logger
	readOnly bool

	refreshing chan struct{} // holds one while somebody asks the central database

	mu      sync.Mutex
	now     tenantdb.Mark // guarded by mu
	bears   string        // guarded by mu; the mark that stands in the central database itself
	tokens  []string      // guarded by mu; of 90 days, oldest first
	pending []string      // guarded by mu; databases whose adoption was open at the last look, and is still
	unsure  bool          // guarded by mu; the last look failed: others may have decided more adoptions since
	hour    int64         // guarded by mu; the present one, counted from 1970, by the central database's clock

	cycle *lifecycle.Cycle
}

// Start asks the central database for its mark and tokens, and goes on to do so every
// minute until Stop. The first who asks in an hour makes the hour's token. ctx is for
// starting only.
func Start(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) (*Centre, error) {
	c := newCentre(pool, log)
	if err := c.cycle.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func newCentre(pool *pgxpool.Pool, log *slog.Logger) *Centre {
	c := &Centre{pool: pool, log: log, refreshing: make(chan struct{}, 1)}
	c.cycle = lifecycle.New(lifecycle.Parts{Name: "the centre", Begin: c.Refresh, Loop: c.loop})
	return c
}

// Look is a Centre that writes nothing, neither in the central database nor in tenants',
// and asks once.
func Look(ctx context.Context, pool *pgxpool.Pool) (*Centre, error) {
	c := newCentre(pool, slog.Default())
	c.readOnly = true
	return c, c.Refresh(ctx)
}

// Stop ends what Start began. It may be called twice.
func (c *Centre) Stop() { _ = c.cycle.Stop(context.Background()) } // which waits for the loop, and nothing in it fails

func (c *Centre) loop(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := c.Refresh(ctx); err != nil && ctx.Err() == nil {
				c.mu.Lock()
				c.unsure = true
				c.mu.Unlock()
				c.log.WarnContext(ctx, "could not ask the central database for its token; the last one counts", "error", err)
			}
		}
	}
}

// Now is the mark, and the newest token that counts.
func (c *Centre) Now() tenantdb.Mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// renewToken makes the token of the hour, once.
const renewToken = `
INSERT INTO headgate.centre_tokens (hour, token)
SELECT date_trunc('hour', now(), 'UTC'), floor(extract(epoch FROM now()) / 3600)::bigint || '.' || gen_random_uuid()
WHERE NOT EXISTS (SELECT FROM headgate.centre_tokens WHERE hour = date_trunc('hour', now(), 'UTC'))
ON CONFLICT DO NOTHING`

// keep is how many hours a token counts.
const keep = 90 * 24

// forgetTokens leaves the newest that may count. It goes by their number and not by a
// clock, which may be wrong for a moment: no clock takes a token away that tenants'
// databases bear.
const forgetTokens = `
DELETE FROM headgate.centre_tokens WHERE hour IN (SELECT hour FROM headgate.centre_tokens ORDER BY hour DESC OFFSET $1 FOR UPDATE SKIP LOCKED)`

// markFirst is what the first worker does, ever.
const markFirst = `UPDATE headgate.centre SET mark = headgate.centre_mark() WHERE mark IS NULL`

const selectMark = `
SELECT headgate.centre_mark(), coalesce((SELECT mark FROM headgate.centre), headgate.centre_mark()), ARRAY(SELECT database_id::text FROM headgate.adoptions), floor(extract(epoch FROM now()) / 3600)::bigint`

// selectMade are the tokens that are kept, at most 2,184.
const selectMade = `
SELECT token, written_at <= clock_timestamp() - interval '10 minutes' FROM headgate.centre_tokens ORDER BY hour`

// Own returns nil if the central database is where its workers were last, and else an
// error that matches tenantdb.ErrWrongCentre: it is a copy, or was restored or moved. It
// asks nobody, and is for work that meets no tenant database, which would know.
func (c *Centre) Own() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bears == c.now.Centre {
		return nil
	}
	return &copyError{bears: c.bears, is: c.now.Centre}
}

// copyError says that a central database is not the one that it was.
type copyError struct{ bears, is string }

func (e *copyError) Error() string {
	return fmt.Sprintf("this central database is a copy, or was restored or moved: it bears the mark %s, and is %s: see that the other one does no work any more, then run `headgate central adopt --all`", e.bears, e.is)
}

func (e *copyError) Is(target error) bool { return target == tenantdb.ErrWrongCentre }

// Refresh asks the central database now.
func (c *Centre) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case c.refreshing <- struct{}{}:
		defer func() { <-c.refreshing }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for another look at the central database: %w", context.Cause(ctx))
	}
	if !c.readOnly {
		if _, err := c.pool.Exec(ctx, renewToken); err != nil {
			return fmt.Errorf("making the centre's token of this hour: %w", err)
		}
		if _, err := c.pool.Exec(ctx, forgetTokens, keep+24); err != nil {
			c.log.WarnContext(ctx, "could not forget tokens of the central database that are too old to count", "error", err)
		}
		if _, err := c.pool.Exec(ctx, markFirst); err != nil {
			return fmt.Errorf("marking the central database: %w", err)
		}
	}
	var mark, bears string
	var pending []string
	var hour int64
	if err := c.pool.QueryRow(ctx, selectMark).Scan(&mark, &bears, &pending, &hour); err != nil {
		return fmt.Errorf("reading the centre's mark: %w", err)
	}
	rows, err := c.pool.Query(ctx, selectMade)
	if err != nil {
		return fmt.Errorf("reading the centre's tokens: %w", err)
	}
	now, tokens := tenantdb.Mark{Centre: mark}, []string{}
	var token string
	var counts bool
	_, err = pgx.ForEachRow(rows, []any{&token, &counts}, func() error {
		tokens = append(tokens, token)
		if counts {
			now.Token = token
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the centre's tokens: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.bears, c.tokens, c.pending, c.unsure, c.hour = now, bears, tokens, pending, false, hour
	return nil
}

// place is a token's place among those that are known, -1 for one that is not. Before all
// comes "", of a database that was met before the first token counted, and a token that
// is too old to be known.
func (c *Centre) place(text string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	made, _, _ := strings.Cut(text, ".")
	hour, err := strconv.ParseInt(made, 10, 64)
	if text == "" || err == nil && hour <= c.hour-keep {
		return 0
	}
	i := slices.Index(c.tokens, text)
	if i >= 0 && err == nil && hour > c.hour { // made while the clock was ahead: the present one takes its place
		return 0
	}
	if i < 0 {
		return -1
	}
	return i + 1
}

// Judge implements tenantdb.Centre. A token that is not known is asked for before it is
// taken for another's.
func (c *Centre) Judge(ctx context.Context, databaseID string, found tenantdb.Mark) (leave tenantdb.Mark, err error) {
	now := c.Now()
	ours := found.Centre == "" || found.Centre == now.Centre && c.place(found.Token) >= 0
	if !ours {
		if err := c.Refresh(ctx); err != nil {
			return leave, err
		}
		now = c.Now()
		ours = found.Centre == now.Centre && c.place(found.Token) >= 0
	}
	if !ours {
		if err := c.adopts(ctx, databaseID, now, found); err != nil {
			return leave, err
		}
	} else if err := c.forget(ctx, databaseID, found == now); err != nil {
		return leave, err
	}
	newer := ours && found.Centre == now.Centre && c.place(found.Token) >= c.place(now.Token)
	if newer || c.readOnly {
		return leave, nil
	}
	return now, nil
}

// adoptSQL holds an adoption against the state that was found first: a worker that dies
// before it has left the mark may be followed by another, and a database that has changed
// hands meanwhile is not taken.
const adoptSQL = `
UPDATE headgate.adoptions SET found = $3
WHERE database_id = $1 AND centre = $2 AND (found IS NULL OR found = $3)
RETURNING true`

const selectAdoption = `
SELECT true FROM headgate.adoptions WHERE database_id = $1 AND centre = $2 AND (found IS NULL OR found = $3)`

// adopts returns nil if an operator has decided that this centre takes the database.
func (c *Centre) adopts(ctx context.Context, databaseID string, now, found tenantdb.Mark) error {
	sql := adoptSQL
	if c.readOnly {
		sql = selectAdoption
	}
	var yes bool
	err := c.pool.QueryRow(ctx, sql, databaseID, now.Centre, found.Centre+" "+found.Token).Scan(&yes)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && found.Centre == now.Centre:
		return fmt.Errorf("%w: it bears this one's mark %s and a token that this one has not made in the last 90 days", tenantdb.ErrWrongCentre, found.Centre)
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: it bears the mark %s, and this one's is %s", tenantdb.ErrWrongCentre, found.Centre, now.Centre)
	case err != nil:
		return fmt.Errorf("looking for an adoption: %w", err)
	}
	if !c.readOnly {
		c.log.WarnContext(ctx, "database adopted from another central database", "event", "database adopted", "database_id", databaseID, "from", found.Centre, "to", now.Centre)
	}
	return nil
}

const forgetAdoption = `DELETE FROM headgate.adoptions WHERE database_id = $1`

// forget ends the adoption of a database that is this centre's: it was carried out, or
// there was no need for it. A copy of this central database must not make use of it. Where
// the present mark stands already, only an adoption that is known to be open is a reason to
// ask: connections are made also while the central database is away.
func (c *Centre) forget(ctx context.Context, databaseID string, stands bool) error {
	c.mu.Lock()
	open := slices.Contains(c.pending, databaseID) || c.unsure && !stands
	c.mu.Unlock()
	if !open || c.readOnly {
		return nil
	}
	if _, err := c.pool.Exec(ctx, forgetAdoption, databaseID); err != nil {
		return fmt.Errorf("forgetting an adoption: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = slices.DeleteFunc(slices.Clone(c.pending), func(id string) bool { return id == databaseID })
	return nil
}
