package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// A row has all lines of an attempt, one below the other. Each day's index is asked, as with
// attempts. Within a row the lines are numbered from 1.
const logsOf = `
SELECT l.id, l.attempt, l.ended_at, n::int, line
FROM headgate.job_logs l CROSS JOIN LATERAL string_to_table(l.lines, E'\n') WITH ORDINALITY AS s (line, n)
WHERE l.job_uid = $1 `

const (
	selectLogs = logsOf + `AND l.ended_at >= $2 AND (l.ended_at, l.id, n) > ($2, $3::uuid, $4) ORDER BY l.ended_at, l.id, n LIMIT $5`
	lastLogs   = logsOf + `ORDER BY l.ended_at DESC, l.id DESC, n DESC LIMIT $2`
)

// placedLine is a line and where it stands.
type placedLine struct {
	jobs.LogLine
	id    uuid.UUID
	ended time.Time
	n     int
}

func scanLine(row pgx.CollectableRow) (l placedLine, err error) {
	var text string
	if err := row.Scan(&l.id, &l.Attempt, &l.ended, &l.n, &text); err != nil {
		return l, err
	}
	var stored struct {
		Time    time.Time       `json:"time"`
		Level   string          `json:"level"`
		Message string          `json:"msg"`
		TraceID string          `json:"trace_id"`
		Attrs   json.RawMessage `json:"attrs"`
	}
	if json.Unmarshal([]byte(text), &stored) != nil { // anybody may have written it
		stored.Time, stored.Message = l.ended, text
	}
	l.At, l.Level, l.Message, l.TraceID, l.Attrs = stored.Time, stored.Level, stored.Message, stored.TraceID, stored.Attrs
	return l, nil
}

// JobLogs returns lines that a job's attempts have logged (see orchestrator.Client).
func (q *Queue) JobLogs(ctx context.Context, uid string, page jobs.Page) (list []jobs.LogLine, next string, err error) {
	if uid, err = parseUID(uid); err != nil {
		return nil, "", err
	}
	limit, err := page.Size(100, 1000)
	if err != nil {
		return nil, "", fmt.Errorf("listing log lines: %w", err)
	}
	var after placedLine // before all
	if page.After != "" {
		var ok bool
		if after, ok = readLinePlace(page.After); !ok {
			return nil, "", fmt.Errorf("listing log lines: %w", page.Unknown())
		}
	}
	found, err := q.lines(ctx, uid, selectLogs, uid, after.ended, after.id, after.n, limit+1)
	if err != nil {
		return nil, "", err
	}
	found, next = jobs.CutPage(found, limit, func(l placedLine) string {
		return fit.Place(l.ended, l.id.String()+"."+strconv.Itoa(l.n))
	})
	return plainLines(found), next, nil
}

func readLinePlace(text string) (l placedLine, ok bool) {
	ended, rest, ok := fit.ReadPlace(text)
	id, number, found := strings.Cut(rest, ".")
	uid, err := uuid.Parse(id)
	n, wrong := strconv.Atoi(number)
	return placedLine{id: uid, ended: ended, n: n}, ok && found && err == nil && wrong == nil
}

// LastJobLogs returns the last lines that a job's attempts have logged, oldest first, and
// whether there are earlier ones.
func (q *Queue) LastJobLogs(ctx context.Context, uid string, most int) (list []jobs.LogLine, earlier bool, err error) {
	if uid, err = parseUID(uid); err != nil {
		return nil, false, err
	}
	found, err := q.lines(ctx, uid, lastLogs, uid, most+1)
	if err != nil {
		return nil, false, err
	}
	if earlier = len(found) > most; earlier {
		found = found[:most]
	}
	slices.Reverse(found)
	return plainLines(found), earlier, nil
}

func (q *Queue) lines(ctx context.Context, uid, sql string, args ...any) (found []placedLine, err error) {
	rows, err := q.pool.Query(ctx, sql, args...)
	if err == nil {
		found, err = pgx.CollectRows(rows, scanLine)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what job %s has logged: %w", uid, err)
	}
	return found, nil
}

func plainLines(found []placedLine) []jobs.LogLine {
	list := make([]jobs.LogLine, len(found))
	for i, l := range found {
		list[i] = l.LogLine
	}
	return list
}
