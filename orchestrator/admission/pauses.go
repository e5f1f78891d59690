package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Pause keeps what it is about from being started; what runs goes on. Waiting jobs
// use no attempt meanwhile and cost nothing. A queue may have two: By of the one that River's
// UI or another River client has made is "River".
type Pause struct {
	Subject Subject    `json:"scope"`
	Name    string     `json:"name"`
	By      string     `json:"by"`
	Note    string     `json:"note"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until"` // nil: until somebody resumes it
}

// PauseOpts say more of a pause.
type PauseOpts struct {
	By    string    // who wants it, at most 200 characters
	Note  string    // why, at most 500
	Until time.Time // when it ends by itself; zero: never
}

// ErrNotPaused: there is nothing to resume.
var ErrNotPaused = jobs.Sentinel("not_paused", "not paused")

const (
	maxActor = 200
	maxNote  = 500
	maxPause = 10 * 365 * 24 * time.Hour
)

func (o *PauseOpts) check(now time.Time) error {
	if err := cmp.Or(jobs.CheckText("by", o.By, maxActor), jobs.CheckText("note", o.Note, maxNote)); err != nil {
		return err
	}
	switch {
	case o.Until.IsZero():
		return nil
	case !o.Until.After(now):
		return jobs.Inputf("until", o.Until.UTC().Format(time.RFC3339), "it is past: give a time to come, or leave it out to pause until it is resumed")
	case o.Until.After(now.Add(maxPause)):
		return jobs.Inputf("until", o.Until.UTC().Format(time.RFC3339), "it is too far ahead: give at most ten years")
	}
	return nil
}

// isText says that Postgres takes it, and that it is no longer than so many
// characters.
func isText(text string, most int) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, 0) && utf8.RuneCountInString(text) <= most
}

// pauseAgain says more of a pause that there is: its beginning stays, unless it was over.
const pauseAgain = `
ON CONFLICT (scope, target) DO UPDATE
SET paused_by = excluded.paused_by, note = excluded.note, until = excluded.until,
    since = CASE WHEN p.until <= now() THEN excluded.since ELSE p.since END`

const pauseSQL = `
INSERT INTO headgate.pauses AS p (scope, target, paused_by, note, until)
VALUES ($1, $2, $3, $4, $5)` + pauseAgain + `
RETURNING paused_by, note, since, until`

// Pause pauses a tenant, kind, queue or server, for all workers at once; opts may be
// nil. Doing it again changes who, why and until when. Of a kind or queue any name
// is taken. Errors are a *jobs.InputError, or match jobs.ErrUnknownTenant or
// catalog.ErrUnknownServer.
func (c *Control) Pause(ctx context.Context, subject Subject, name string, opts *PauseOpts) (pause Pause, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		pause, err = c.PauseTx(ctx, tx, subject, name, opts)
		return err
	})
	return pause, err
}

// PauseTx is Pause in the caller's transaction. It counts with the commit.
func (c *Control) PauseTx(ctx context.Context, tx pgx.Tx, subject Subject, name string, opts *PauseOpts) (Pause, error) {
	if opts == nil {
		opts = &PauseOpts{}
	}
	of, err := c.findHeld(ctx, tx, subject, PauseSubjects, name)
	if err == nil {
		err = opts.check(time.Now())
	}
	if err != nil {
		return Pause{}, fmt.Errorf("pause: %w", err)
	}
	var until *time.Time
	if !opts.Until.IsZero() {
		until = &opts.Until
	}
	if err := access.Say(ctx, tx, opts.By, opts.Note); err != nil {
		return Pause{}, fmt.Errorf("pausing %s %s: %w", subject, of.name, err)
	}
	p := Pause{Subject: subject, Name: of.name}
	if err := tx.QueryRow(ctx, pauseSQL, string(subject), of.key, opts.By, opts.Note, until).Scan(&p.By, &p.Note, &p.Since, &p.Until); err != nil {
		return Pause{}, fmt.Errorf("pausing %s %s: %w", subject, of.name, err)
	}
	return p, nil
}

// resumeInRiverSQL ends River's own pause of a queue, too.
const resumeInRiverSQL = `
SELECT p.paused_by, p.note, p.since, headgate.resume_in_river(p.target) FROM headgate.all_pauses p WHERE p.in_river AND p.scope = $1 AND p.target = $2`

const resumeSQL = `
DELETE FROM headgate.pauses WHERE scope = $1 AND target = $2
RETURNING paused_by, note, since, until, coalesce(until > now(), true)`

// Resume ends a pause and wakes the workers, and returns what it was. Of a queue it ends River's
// own pause as well, and returns that where there is no other. The error matches ErrNotPaused if
// there is none, or its time was up.
func (c *Control) Resume(ctx context.Context, subject Subject, name string) (was Pause, err error) {
	var over error
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		if was, err = c.ResumeTx(ctx, tx, subject, name); errors.Is(err, ErrNotPaused) {
			over, err = err, nil // the row of one whose time is up may go
		}
		return err
	})
	return was, errors.Join(err, over)
}

// ResumeTx is Resume in the caller's transaction. It counts with the commit.
func (c *Control) ResumeTx(ctx context.Context, tx pgx.Tx, subject Subject, name string) (Pause, error) {
	of, err := c.find(ctx, tx, subject, PauseSubjects, name)
	if err != nil {
		return Pause{}, fmt.Errorf("resume: %w", err)
	}
	if err := access.Say(ctx, tx, "", ""); err != nil {
		return Pause{}, fmt.Errorf("resuming %s %s: %w", subject, of.name, err)
	}
	p, holds := Pause{Subject: subject, Name: of.name}, false
	inRiver, held := p, false
	none := func(err error) error {
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	}
	err = errors.Join(
		none(tx.QueryRow(ctx, resumeSQL, string(subject), of.key).Scan(&p.By, &p.Note, &p.Since, &p.Until, &holds)),
		none(tx.QueryRow(ctx, resumeInRiverSQL, string(subject), of.key).Scan(&inRiver.By, &inRiver.Note, &inRiver.Since, &held)),
	)
	switch {
	case err != nil:
		return Pause{}, fmt.Errorf("resuming %s %s: %w", subject, of.name, err)
	case holds:
		return p, nil
	case held:
		return inRiver, nil
	}
	return Pause{}, fmt.Errorf("%s %q is %w", subject, fit.Cut(of.name), ErrNotPaused)
}

// listPausesSQL finds the names by primary key.
const listPausesSQL = `
SELECT p.scope, coalesce(t.slug, s.name, p.target), p.paused_by, p.note, p.since, p.until, p.place
FROM (SELECT *, target || CASE WHEN in_river THEN ' river' ELSE '' END AS place FROM headgate.all_pauses) p
LEFT JOIN headgate.tenants t ON p.scope = 'tenant' AND t.id = headgate.uuid_or_null(p.target)
LEFT JOIN headgate.servers s ON p.scope = 'server' AND s.id = headgate.uuid_or_null(p.target)
WHERE (p.since < $1 OR p.since = $1 AND (p.scope, p.place) > ($2, $3))
  AND ($5::text[] IS NULL OR p.scope = 'tenant' AND p.target IN (SELECT x.id FROM unnest($5::text[]) x (id)))
ORDER BY p.since DESC, p.scope, p.place
LIMIT $4`

// pauseRow is a pause with the key that it is ordered by.
type pauseRow struct {
	Pause
	place string // its target, and which of two
}

// after is the place of the row in the list; parsePauseAfter reads it.
func (r pauseRow) after() string {
	return fit.Place(r.Since, string(r.Subject)+" "+r.place)
}

func parsePauseAfter(page jobs.Page) (since pgtype.Timestamptz, subject, target string, err error) {
	if page.After == "" {
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, "", "", nil
	}
	at, rest, ok := fit.ReadPlace(page.After)
	subject, target, both := strings.Cut(rest, " ")
	if !ok || !both {
		return since, "", "", page.Unknown()
	}
	return pgtype.Timestamptz{Time: at, Valid: true}, subject, target, nil
}

// Pauses returns what is paused now, the newest first: 200, or up to 10,000 a page.
// next is the After of the page behind it, or "".
func (c *Control) Pauses(ctx context.Context, page jobs.Page) (list []Pause, next string, err error) {
	return c.listPauses(ctx, nil, page)
}

// PausesSelected is Pauses of the tenants that a selector selects, archived ones included.
func (c *Control) PausesSelected(ctx context.Context, s selector.Selector, page jobs.Page) (list []Pause, next string, err error) {
	ids, err := c.catalog.ListedIDs(ctx, s)
	if err != nil {
		return nil, "", fmt.Errorf("listing pauses: %w", err)
	}
	return c.listPauses(ctx, ids, page)
}

// listPauses is of all, or, if tenants is not nil, of these.
func (c *Control) listPauses(ctx context.Context, tenants []string, page jobs.Page) (list []Pause, next string, err error) {
	size, err := page.Size(defaultPage, maxPage)
	if err != nil {
		return nil, "", fmt.Errorf("listing pauses: %w", err)
	}
	since, subject, target, err := parsePauseAfter(page)
	if err != nil {
		return nil, "", fmt.Errorf("listing pauses: %w", err)
	}
	rows, err := c.pool.Query(ctx, listPausesSQL, since, subject, target, size+1, tenants)
	if err != nil {
		return nil, "", fmt.Errorf("listing pauses: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r pauseRow, err error) {
		return r, row.Scan(&r.Subject, &r.Name, &r.By, &r.Note, &r.Since, &r.Until, &r.place)
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing pauses: %w", err)
	}
	found, next = jobs.CutPage(found, size, pauseRow.after)
	for _, r := range found {
		list = append(list, r.Pause)
	}
	return list, next, nil
}
