package capacity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// selectRunning is a test that runs on the server: its administrator's session.
const selectRunning = `
SELECT application_name FROM pg_stat_activity
WHERE application_name ~ '` + namePattern + `' AND pid <> pg_backend_pid()
ORDER BY application_name LIMIT 1`

// selectLeftovers are the copies of runs that are no more. One without a comment was being
// made, and has let nobody in yet. A copy's session is on the server before the copy is, so
// a copy without one is nobody's.
const selectLeftovers = `
SELECT d.datname::text FROM pg_database d
WHERE d.datname ~ '` + namePattern + `'
  AND (pg_catalog.shobj_description(d.oid, 'pg_database') = $1 OR NOT d.datallowconn)
  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = d.datname)
ORDER BY d.datname`

// runningWait is how long a test waits for the session of one that was killed: the server
// notices within moments that the client is gone, unless it is making a copy.
const runningWait = 10 * time.Second

// clear waits for the server to be free of other tests, and drops what killed ones have left.
func (r *Run) clear(ctx context.Context, conn *pgx.Conn) error {
	deadline, tick := time.NewTimer(runningWait), time.NewTicker(200*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		var other string
		err := conn.QueryRow(ctx, selectRunning).Scan(&other)
		if errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if err != nil {
			return fmt.Errorf("asking whether another test runs on the server: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return fmt.Errorf("%w: another capacity test (%s) runs on server %s, and each would measure the other: run the command again after its end", catalog.ErrHeld, other, r.Server.Name)
		case <-tick.C:
		}
	}
	if _, err := r.dropLeftovers(ctx, conn); err != nil { // it is in nobody's way
		r.Say("warning: %s", err)
	}
	return ctx.Err()
}

// Clean drops the copies that killed runs have left on the server, and returns their names.
func (r *Run) Clean(ctx context.Context) ([]string, error) {
	conn, err := r.openAdmin(ctx, newName())
	if err != nil {
		return nil, err
	}
	defer cli.CloseConn(ctx, conn)
	return r.dropLeftovers(ctx, conn)
}

func (r *Run) dropLeftovers(ctx context.Context, conn *pgx.Conn) (dropped []string, err error) {
	rows, _ := conn.Query(ctx, selectLeftovers, evidence) // its error is CollectRows' too
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("looking for copies of earlier tests: %w", err)
	}
	for _, name := range names {
		if failed := dropCopy(ctx, conn, name); failed != nil { // the others are dropped all the same
			err = errors.Join(err, failed)
			continue
		}
		r.Say("dropped: %s, which a test that was killed has left", name)
		dropped = append(dropped, name)
	}
	return dropped, err
}

// dropCopy removes a copy, if there is one. An administrator who is no superuser may not end
// the workers' sessions, and waits for their end, which comes soon after that of their worker.
func dropCopy(ctx context.Context, conn *pgx.Conn, name string) error {
	ctx, cancel := context.WithTimeout(ctx, dropTime)
	defer cancel()
	_, err := conn.Exec(ctx, `ALTER DATABASE `+quote(name)+` ALLOW_CONNECTIONS false`)
	if err == nil {
		_, err = conn.Exec(ctx, `DROP DATABASE IF EXISTS `+quote(name)+` WITH (FORCE)`)
		for code(err) == "42501" || code(err) == "55006" { // without FORCE Postgres waits 5 s for the sessions
			_, err = conn.Exec(ctx, `DROP DATABASE IF EXISTS `+quote(name))
		}
	}
	if err != nil && code(err) != "3D000" {
		return fmt.Errorf("dropping the copy %s: %w", name, err)
	}
	return nil
}

func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
