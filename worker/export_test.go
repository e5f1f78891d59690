package worker

import (
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
)

// HidePilot leaves of the driver what every River driver has, as if River asked
// for pilots in another way than ours answers to.
func (w *Worker) HidePilot() {
	w.driver = struct{ riverdriver.Driver[pgx.Tx] }{w.driver}
}

// LoadOf is loadOf.
var LoadOf = loadOf
