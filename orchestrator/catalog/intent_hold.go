package catalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// IntentHold keeps everybody else from the intent of one name. The lock belongs to a session
// of the central database, and every step is written in that session: who has lost it can
// begin no further step.
//
// A process that freezes loses the session after [IntentIdle]. Whoever works on the server
// meanwhile must do so in sessions that end sooner, so that the frozen one has none left
// when another run begins.
type IntentHold struct {
	mu   sync.Mutex // of conn
	conn *pgx.Conn
	name string

	stop context.CancelFunc
	done chan struct{}
}

const (
	// IntentIdle is how long a held session may be silent before its server ends it.
	IntentIdle = 40 * time.Second

	intentBeat = IntentIdle / 10
	intentPoll = 250 * time.Millisecond
)

// ErrHeld: another run holds the intent.
var ErrHeld = jobs.Sentinel("intent_held", "another run is at work on this database")

const holdIntentSQL = `SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('headgate.database_intents ' || $1, 0))`

const holdSettingsSQL = `SELECT pg_catalog.set_config('idle_session_timeout', $1, false), pg_catalog.set_config('idle_in_transaction_session_timeout', $1, false)`

// HoldIntent waits until nobody else holds the intent of that name, as long as wait says; then
// the error matches ErrHeld. conn must have a session of its own; Close closes it, and a
// failed HoldIntent does. waiting is called once, if there is something to wait for.
func HoldIntent(ctx context.Context, conn *pgx.Conn, name string, wait time.Duration, waiting func()) (h *IntentHold, err error) {
	defer func() {
		if err != nil {
			closeConn(ctx, conn)
			err = fmt.Errorf("hold the intent of database %s: %w", shown(name), err)
		}
	}()
	idle := fmt.Sprintf("%dms", IntentIdle.Milliseconds())
	if _, err := conn.Exec(ctx, holdSettingsSQL, idle); err != nil {
		return nil, err
	}
	for began := time.Now(); ; {
		var got bool
		if err := conn.QueryRow(ctx, holdIntentSQL, name).Scan(&got); err != nil {
			return nil, err
		}
		if got {
			break
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if time.Since(began) >= wait {
			return nil, fmt.Errorf("%w: it still was after %s; wait for its end and run the command again (one that is frozen lets go after %s)", ErrHeld, wait, IntentIdle)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(intentPoll):
		}
	}
	h = &IntentHold{conn: conn, name: name, done: make(chan struct{})}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	go h.beat(beating)
	return h, nil
}

// beat keeps the session from being silent while the run works elsewhere.
func (h *IntentHold) beat(ctx context.Context) {
	defer close(h.done)
	ticks := time.NewTicker(intentBeat)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		h.mu.Lock()
		limited, cancel := context.WithTimeout(ctx, IntentIdle)
		_ = h.conn.Ping(limited) // the next step finds a lost session
		cancel()
		h.mu.Unlock()
	}
}

// Close lets go. It returns when nothing of the hold is at work any more.
func (h *IntentHold) Close(ctx context.Context) {
	h.stop()
	<-h.done
	closeConn(ctx, h.conn)
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // a goodbye that is not heard changes nothing
}

// firstStep is the step of an intent that has done nothing yet.
const firstStep = "begun"

// intentTakenSQL looks for what has the name, or the database, already.
const intentTakenSQL = `
SELECT coalesce((SELECT format('a database %1$s is in the catalog already; if its server has it no more, ` + "`headgate doctor`" + ` prints the statements that make it anew, and ` + "`headgate database reattach %1$s --adopt`" + ` takes it in', d.name) FROM headgate.databases d WHERE d.name = $1),
                (SELECT format('database %s of server %s is in the catalog already, as %s', d.dbname, $3::text, d.name)
                   FROM headgate.databases d WHERE d.server_id = $2 AND d.dbname = $4),
                (SELECT format('database %s of server %s is being made already, as %s', i.dbname, $3::text, i.name)
                   FROM headgate.database_intents i WHERE i.server_id = $2 AND i.dbname = $4), '')`

const intentInsertSQL = `
INSERT INTO headgate.database_intents (id, name, server_id, dbname, kind, creates, job_role, owner_role, app_role, job_password, owner_password, app_password, step, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, ''), $10, $11, $12, $13, $14)
RETURNING begun_at`

// Check says whether Begin would refuse what params name, without writing anything.
func (h *IntentHold) Check(ctx context.Context, params IntentParams) error {
	defer h.mu.Unlock()
	h.mu.Lock()
	draft, err := params.Draft()
	if err == nil {
		err = central.Write(ctx, h.conn, func(tx pgx.Tx) error {
			_, err := checkTaken(ctx, tx, draft)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("begin database: %w", err)
	}
	return nil
}

// checkTaken refuses a name or a database that is taken.
func checkTaken(ctx context.Context, tx pgx.Tx, i Intent) (server serverRow, err error) {
	if server, err = serverForShare(ctx, tx, i.Server); err != nil {
		return server, err
	}
	var taken string
	err = tx.QueryRow(ctx, intentTakenSQL, i.Name, server.id, server.name, i.DBName).Scan(&taken)
	if err == nil && taken != "" {
		err = existsf(nil, "%s", taken)
	}
	return server, err
}

// Begin writes a new intent with new passwords, sealed with ring. From then on the server may
// have something of the intent's. Errors match ErrExists or ErrUnknownServer, or are a
// *jobs.InputError.
func (h *IntentHold) Begin(ctx context.Context, ring *KeyRing, params IntentParams) (intent Intent, p Passwords, err error) {
	defer h.mu.Unlock()
	h.mu.Lock()
	if intent, err = params.Draft(); err != nil {
		return Intent{}, p, fmt.Errorf("begin database: %w", err)
	}
	id := newID()
	intent.ID, intent.Step = id.String(), firstStep
	p = Passwords{Job: newPassword(), Owner: newPassword()}
	var app []byte
	if intent.Creates {
		p.App = newPassword()
		app = ring.seal(id, appPasswordColumn, passwordVersion, []byte(p.App.Reveal()))
	}
	err = central.Write(ctx, h.conn, func(tx pgx.Tx) error {
		server, err := checkTaken(ctx, tx, intent)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, intentInsertSQL, id, intent.Name, server.id, intent.DBName, intent.Kind, intent.Creates, intent.Job, intent.Owner, intent.App,
			ring.seal(id, jobPasswordColumn, passwordVersion, []byte(p.Job.Reveal())),
			ring.seal(id, ownerPasswordColumn, passwordVersion, []byte(p.Owner.Reveal())), app, firstStep, intent.Actor).Scan(&intent.BegunAt)
	})
	if constraint, _ := violation(err); constraint != "" { // another name for the same database, in this moment
		err = existsf(err, "database %q of server %q is being made already", intent.DBName, params.Server)
	}
	if err != nil {
		return Intent{}, Passwords{}, fmt.Errorf("begin database: %w", err)
	}
	return intent, p, nil
}

const intentStepSQL = `UPDATE headgate.database_intents SET step = $2, error = '' WHERE name = $1`

// Step writes which step begins. Whatever a step does on the server comes after it, in a
// session that was open before it. An error means that the step must not be done.
func (h *IntentHold) Step(ctx context.Context, step string) error {
	defer h.mu.Unlock()
	h.mu.Lock()
	tag, err := h.conn.Exec(ctx, intentStepSQL, h.name, step)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("%w: %s", ErrNoIntent, shown(h.name))
	}
	if err != nil {
		return fmt.Errorf("begin step %s of database %s: %w", step, shown(h.name), err)
	}
	return nil
}

const intentFailedSQL = `UPDATE headgate.database_intents SET error = $2 WHERE name = $1`

// maxIntentError is how many bytes of an error a row keeps.
const maxIntentError = 1000

// Failed notes why a run has ended before its time. The text must hold no secret.
func (h *IntentHold) Failed(ctx context.Context, text string) error {
	defer h.mu.Unlock()
	h.mu.Lock()
	if h.conn.IsClosed() {
		return nil // it cannot be noted, and the row says at which step
	}
	_, err := h.conn.Exec(ctx, intentFailedSQL, h.name, fit.Clip(text, maxIntentError))
	return err
}

const intentDeleteSQL = `DELETE FROM headgate.database_intents WHERE name = $1`

// End removes the intent in one transaction with what work writes. work may be nil.
func (h *IntentHold) End(ctx context.Context, work func(tx pgx.Tx) error) error {
	defer h.mu.Unlock()
	h.mu.Lock()
	err := central.Write(ctx, h.conn, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, intentDeleteSQL, h.name)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return ErrNoIntent
		case work == nil:
			return nil
		}
		return work(tx)
	})
	if err != nil {
		return fmt.Errorf("end the intent of database %s: %w", shown(h.name), err)
	}
	return nil
}

// CentreMark is the mark that this central database leaves in its tenants' databases.
func (h *IntentHold) CentreMark(ctx context.Context) (mark string, err error) {
	defer h.mu.Unlock()
	h.mu.Lock()
	return CentreMark(ctx, h.conn)
}
