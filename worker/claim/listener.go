package claim

import (
	"context"
	"encoding/json"
	"strings"
	"sync"

	"github.com/riverqueue/river/riverdriver"
)

// listener is River's listener, which this process can also wake by itself. A producer then
// claims at once when this process has freed what a limit kept from the producer. The
// database need not tell the process what the process knows.
type listener struct {
	riverdriver.Listener
	waker *waker
}

// waker wakes a process's producers. If nobody listens (the worker polls), the waker keeps
// at most one notice for each queue, which does no harm.
type waker struct {
	mu         sync.Mutex
	woken      map[string]bool    // queues
	news       map[string]bool    // queues of which something was heard since their last claim
	cancelWait context.CancelFunc // ends the listener's wait; nil: nobody listens
}

const insertTopic = "river_insert"

// wake makes the producer of a queue claim, as soon as its cooldown lets it.
func (w *waker) wake(queue string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken == nil {
		w.woken = map[string]bool{}
	}
	w.woken[queue] = true
	if w.cancelWait != nil {
		w.cancelWait()
	}
}

// next returns a queue that was woken. If there is none, next sets what ends the listener's
// wait.
func (w *waker) next(cancelWait context.CancelFunc) (queue string, woken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for queue := range w.woken {
		delete(w.woken, queue)
		return queue, true
	}
	w.cancelWait = cancelWait
	return "", false
}

// note remembers that something new has come into a queue.
func (w *waker) note(payload string) {
	var news struct {
		Queue string `json:"queue"`
	}
	if json.Unmarshal([]byte(payload), &news) != nil || news.Queue == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.news == nil {
		w.news = map[string]bool{}
	}
	if len(w.news) < maxNews {
		w.news[news.Queue] = true
	}
}

// maxNews bounds the queues that others use and nobody here claims from.
const maxNews = 100

// heard says whether something was heard of a queue since it was asked last.
func (w *waker) heard(queue string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := w.news[queue]
	delete(w.news, queue)
	return heard
}

// listening says whether somebody listens now. Nobody does while River looks whether its
// connection is still there, or makes another.
func (w *waker) listening() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cancelWait != nil
}

func (w *waker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancelWait = nil
}

// WaitForNotification is called by River.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	for {
		wait, cancel := context.WithCancel(ctx)
		if queue, woken := l.waker.next(cancel); woken {
			cancel()
			payload, err := json.Marshal(map[string]string{"queue": queue})
			return &riverdriver.Notification{Topic: insertTopic, Payload: string(payload)}, err
		}
		heard, err := l.Listener.WaitForNotification(wait)
		interrupted := wait.Err() != nil && ctx.Err() == nil
		l.waker.forget()
		cancel()
		if err != nil && interrupted {
			continue
		}
		if err == nil && strings.HasSuffix(heard.Topic, insertTopic) {
			l.waker.note(heard.Payload)
		}
		return heard, err
	}
}
