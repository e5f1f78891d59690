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

// NewDriver returns a driver on the central database that claims under lease. The driver
// listens through listen, where a pooler makes listening through pool impossible; nil means
// pool.
func NewDriver(pool, listen *pgxpool.Pool, lease *Lease) *Driver {
	driver := riverpgxv5.New(pool)
	listenDriver := driver
	if listen != nil {
		listenDriver = riverpgxv5.New(listen)
	}
	d := &Driver{Driver: driver, listen: listenDriver, pilot: &pilot{pool: pool, lease: lease, log: slog.Default(), unreadable: map[int64]unreadable{}}}
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
	return &listener{d.listen.GetListener(params), &d.pilot.lease.gate.waker}
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
