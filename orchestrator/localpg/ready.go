//go:build unix

package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pollEvery is how often a waiting loop looks again. A refused connection to a
// unix socket costs microseconds.
const pollEvery = 3 * time.Millisecond

// errServerDied says that Postgres ended instead of answering.
var errServerDied = errors.New("the server ended while starting")

// awaitReady returns when the server answers a query with our password, or says
// why it will not.
func awaitReady(ctx context.Context, p *process, url, log string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("localpg: reading our own connection string: %w", err)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ping(ctx, cfg)
		if err == nil {
			return nil
		}
		if refusesPassword(err) {
			return fmt.Errorf("localpg: the server refuses the superuser's password; the password file and the data do not belong together: %w", err)
		}
		select {
		case <-p.done:
			return fmt.Errorf("localpg: %w (%s). Its last words:\n%s", errServerDied, p.cmd.ProcessState, logTail(log))
		case <-ctx.Done():
			return fmt.Errorf("localpg: Postgres does not answer: %w (%w). Its last words:\n%s", context.Cause(ctx), err, logTail(log))
		case <-tick.C:
		}
	}
}

func ping(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1")
	return errors.Join(err, conn.Close(ctx))
}

// refusesPassword: class 28, invalid authorization.
func refusesPassword(err error) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && strings.HasPrefix(refusal.Code, "28")
}

func logTail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return lastLines(string(text), 10)
}
