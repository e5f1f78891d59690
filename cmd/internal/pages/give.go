package pages

import (
	"container/list"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// answer is what will be answered, before anybody has seen it.
type answer struct {
	header http.Header
	code   int
	body   []byte
}

func newAnswer() *answer { return &answer{header: http.Header{}} }

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(part []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, part...)
	return len(part), nil
}

// give writes an answer to whom it is for, who may read slowly or not at all.
func (u *riverUI) give(w http.ResponseWriter, r *http.Request, a *answer) {
	if most := u.unread.most / ofUnread; len(a.body) > most {
		size := len(a.body)
		a = newAnswer()
		refuse(a, r, http.StatusUnprocessableEntity, fmt.Sprintf("this answer has %d MiB, and these pages give at most %d at once: look for fewer jobs, or at one; headgate job show prints any", size>>20, most>>20))
	}
	for _, name := range []string{"Content-Type", "Location", "Vary", "Allow"} {
		if value := a.header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	a.WriteHeader(http.StatusOK)
	done := u.unread.admit(len(a.body), http.NewResponseController(w))
	defer done()
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body) // who asked may be gone
}

// ofUnread is which part of all unread answers one may be.
const ofUnread = 4

// unread are the answers that wait to be read. Together they have at most so many bytes: where
// another one comes, the oldest are broken off.
type unread struct {
	most   int
	within time.Duration

	mu    sync.Mutex
	bytes int
	waits list.List // of *unreadOne, the oldest first; guarded by mu
}

type unreadOne struct {
	bytes  int
	writer *http.ResponseController
}

func newUnread(most int, within time.Duration) *unread { return &unread{most: most, within: within} }

// admit adds an answer, and returns what is to be called when it has been written. One that is
// broken off has its deadline behind it, so that its write ends at once.
func (u *unread) admit(bytes int, writer *http.ResponseController) (done func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.bytes+bytes > u.most && u.waits.Len() > 0 {
		u.drop(u.waits.Front(), time.Unix(1, 0))
	}
	_ = writer.SetWriteDeadline(time.Now().Add(u.within)) // else the server's own
	at := u.waits.PushBack(&unreadOne{bytes, writer})
	u.bytes += bytes
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.drop(at, time.Time{})
	}
}

// drop takes an answer out, unless it is out already, and sets its deadline if that is not zero.
func (u *unread) drop(at *list.Element, deadline time.Time) {
	one, _ := at.Value.(*unreadOne) // each is one
	if one == nil {
		return
	}
	at.Value = (*unreadOne)(nil)
	u.waits.Remove(at)
	u.bytes -= one.bytes
	if !deadline.IsZero() {
		_ = one.writer.SetWriteDeadline(deadline) // a connection that is closed needs none
	}
}
