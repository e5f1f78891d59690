package worker

import (
	"context"
	"time"

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

// RefreshCentre asks the central database for its token now.
func (w *Worker) RefreshCentre(ctx context.Context) error { return w.centre.Refresh(ctx) }

// Connects is how many connections a worker has made to a server, by its name.
func (w *Worker) Connects(server string) (n int64) {
	for _, s := range w.pools.Servers() {
		if s.Name == server {
			n = s.Made
		}
	}
	return n
}

// RetryDelay is how long a job of a kind waits after an attempt.
func RetryDelay(w *Worker, kind string, attempt int) time.Duration {
	return retries{w}.delay(kind, attempt)
}
