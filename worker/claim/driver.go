// Package claim is the one place that touches River's unstable API: the driver
// (this file) and the pilot behind it (pilot.go). Every statement that moves a
// running row of the queue belongs here.
//
// A row moves so; beside each arrow, what must be true of it:
//
//	available ──claim, a new token──▶ running ──end, under that token──▶ completed, retryable, scheduled,
//	    ▲                                │                               available, cancelled, discarded
//	    └──── reap: its incarnation ◀────┘
//	          is dead; no attempt used
//
// River asks its driver for a pilot by a type assertion on two methods that it
// does not promise to keep. If they were renamed, River would fall back to its
// own pilot without a word: [AssertPilot] makes that a start-up error.
//
// What a claim may start is counted by what all living processes have published, under
// one lock (room.go); what each may keep of a server's connections above its running
// jobs', and until when others count that, is in part.go.
package claim

import (
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivershared/baseservice"
	"github.com/riverqueue/river/rivershared/riverpilot"
)

// Driver is River's pgx driver with our pilot.
type Driver struct {
	*riverpgxv5.Driver
	listen *riverpgxv5.Driver
	pilot  *pilot
}

// NewDriver returns a driver on the central database that claims under lease.
// It listens through listen, for where a pooler makes that impossible through
// pool; nil means pool.
func NewDriver(pool, listen *pgxpool.Pool, lease *Lease) *Driver {
	driver := riverpgxv5.New(pool)
	ear := driver
	if listen != nil {
		ear = riverpgxv5.New(listen)
	}
	d := &Driver{Driver: driver, listen: ear, pilot: &pilot{pool: pool, lease: lease, log: slog.Default(), unreadable: map[int64]unreadable{}}}
	d.pilot.unwrap = d.UnwrapTx
	return d
}

// GetExecutor is called by River.
func (d *Driver) GetExecutor() riverdriver.Executor {
	return &executor{d.Driver.GetExecutor(), d.pilot}
}

// UnwrapTx is called by River.
func (d *Driver) UnwrapTx(tx riverdriver.ExecutorTx) pgx.Tx {
	if ours, ok := tx.(*executorTx); ok {
		tx = ours.ExecutorTx
	}
	return d.Driver.UnwrapTx(tx)
}

// GetListener is called by River.
func (d *Driver) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &ear{d.listen.GetListener(params), &d.pilot.lease.desk.bell}
}

// PluginInit is called by River.
func (d *Driver) PluginInit(*baseservice.Archetype) {}

// PluginPilot is called by River.
func (d *Driver) PluginPilot() riverpilot.Pilot { return d.pilot }

// AssertPilot fails if client does not use our pilot.
func AssertPilot(client *river.Client[pgx.Tx]) error {
	if _, ok := client.Pilot().(*pilot); !ok {
		return fmt.Errorf("this version of River ignores Headgate's pilot (it uses %T): build with the River version that go.mod pins", client.Pilot())
	}
	return nil
}
