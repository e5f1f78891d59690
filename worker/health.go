package worker

import "time"

// Health is what a worker knows of itself, from memory: no database is asked. The zero
// value is of a worker that has not started.
type Health struct {
	Worker   string // its name in outcomes
	Draining bool   // Stop was called: it claims nothing more

	Turned    time.Time     // when its heartbeat loop last began a pass, also one that failed
	Heartbeat time.Time     // when the central database last took a heartbeat of its
	DeadAfter time.Duration // how old a heartbeat grows before others declare the worker dead

	Failing []QueueFailing // queues of which no job can be claimed now, by name
}

// QueueFailing says since when every claim of one queue has failed.
type QueueFailing struct {
	Queue string
	Since time.Time
	Times int    // claims in a row
	Error string // the last one's, cut at 300 bytes
}

// Health returns the worker's health. It is safe for concurrent use.
func (w *Worker) Health() Health {
	w.lifeMu.Lock()
	keeper, lease := w.keeper, w.lease
	w.lifeMu.Unlock()
	if keeper == nil {
		return Health{}
	}
	h := Health{Worker: w.id, Draining: w.stopping.Load(), DeadAfter: w.cfg.DeadAfter}
	h.Turned, h.Heartbeat = keeper.Turned()
	for _, f := range lease.Failing() {
		if len(f.Owners) == 0 { // the other jobs of the queue are claimed
			h.Failing = append(h.Failing, QueueFailing{f.Queue, f.Since, f.Times, f.Error})
		}
	}
	return h
}
