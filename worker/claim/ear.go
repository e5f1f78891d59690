package claim

import (
	"context"
	"encoding/json"
	"strings"
	"sync"

	"github.com/riverqueue/river/riverdriver"
)

// ear is River's listener, which can also be rung from within the process: a
// producer claims at once when this process has given back what a limit kept
// from it, without asking the database to tell us what we know.
type ear struct {
	riverdriver.Listener
	bell *bell
}

// bell rings a process's producers. One that nobody listens to (a worker that
// polls) keeps what was rung, at most one for each queue, and nobody minds.
type bell struct {
	mu   sync.Mutex
	rung map[string]bool    // queues
	news map[string]bool    // queues of which something was heard since their last claim
	wake context.CancelFunc // of who listens; nil: nobody does
}

const insertTopic = "river_insert"

// ring makes the producer of a queue claim, as soon as its cooldown lets it.
func (b *bell) ring(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = map[string]bool{}
	}
	b.rung[queue] = true
	if b.wake != nil {
		b.wake()
	}
}

// next returns a queue that was rung, or sets what a ring is to wake.
func (b *bell) next(wake context.CancelFunc) (queue string, rung bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for queue := range b.rung {
		delete(b.rung, queue)
		return queue, true
	}
	b.wake = wake
	return "", false
}

// note remembers that there is something new in a queue.
func (b *bell) note(payload string) {
	var news struct {
		Queue string `json:"queue"`
	}
	if json.Unmarshal([]byte(payload), &news) != nil || news.Queue == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.news == nil {
		b.news = map[string]bool{}
	}
	if len(b.news) < maxNews {
		b.news[news.Queue] = true
	}
}

// maxNews bounds the queues that others use and nobody here claims from.
const maxNews = 100

// heard says whether something was heard of a queue since it was asked last.
func (b *bell) heard(queue string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	heard := b.news[queue]
	delete(b.news, queue)
	return heard
}

// heeded says whether somebody listens to it now: not while River looks whether its
// connection is still there, or makes another.
func (b *bell) heeded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake != nil
}

func (b *bell) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake = nil
}

// WaitForNotification is called by River.
func (e *ear) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	for {
		wait, cancel := context.WithCancel(ctx)
		if queue, rung := e.bell.next(cancel); rung {
			cancel()
			payload, err := json.Marshal(map[string]string{"queue": queue})
			return &riverdriver.Notification{Topic: insertTopic, Payload: string(payload)}, err
		}
		heard, err := e.Listener.WaitForNotification(wait)
		interrupted := wait.Err() != nil && ctx.Err() == nil
		e.bell.forget()
		cancel()
		if err != nil && interrupted {
			continue
		}
		if err == nil && strings.HasSuffix(heard.Topic, insertTopic) {
			e.bell.note(heard.Payload)
		}
		return heard, err
	}
}
