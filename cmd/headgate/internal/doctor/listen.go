package doctor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// listen sees whether new work is heard of.
func (d *doctor) listen(ctx context.Context, pool *pgxpool.Pool) {
	note := d.on("central")
	ear, err := cli.ListenPool(ctx, d.app)
	switch {
	case err != nil:
		note(StateFail, "listen", "correct DATABASE_DIRECT_URL", "%v", err)
		return
	case ear != nil:
		defer ear.Close()
	case d.app.Pooled():
		note(StateWarn, "listen", "set DATABASE_DIRECT_URL to the address past the pooler", "nothing is heard through the pooler: new work is found by looking once a second")
		return
	default:
		ear = pool
	}
	if err := hear(ctx, ear, pool); err != nil {
		note(StateFail, "listen", "if a pooler stands before the central database, set DATABASE_DIRECT_URL to the address past it", "a notification did not arrive: %v", err)
		return
	}
	note(StateOK, "listen", "", "a notification arrives")
}

const notifySQL = `SELECT pg_notify('headgate_doctor', $1)`

func hear(ctx context.Context, ear, mouth *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := ear.Acquire(ctx)
	if err != nil {
		return err
	}
	listening := conn.Hijack() // it is not for anybody else any more
	defer cli.CloseConn(ctx, listening)
	if _, err := listening.Exec(ctx, `LISTEN headgate_doctor`); err != nil {
		return err
	}
	word := time.Now().Format(time.RFC3339Nano)
	if _, err := mouth.Exec(ctx, notifySQL, word); err != nil {
		return err
	}
	for {
		heard, err := listening.WaitForNotification(ctx)
		if err != nil || heard.Payload == word {
			return err
		}
	}
}
