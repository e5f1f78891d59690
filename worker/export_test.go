package worker

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"
)

// HidePilot leaves of the driver what every River driver has, as if River asked
// for pilots in another way than ours answers to.
func (w *Worker) HidePilot() {
	driver := w.driver
	w.driver = func(central *pgxpool.Pool) riverdriver.Driver[pgx.Tx] {
		return struct{ riverdriver.Driver[pgx.Tx] }{driver(central)}
	}
}

// LoadOf is loadOf.
var LoadOf = loadOf
