package pages

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Where the pages themselves are too busy, nobody looks for the reason in the database.
func TestPagesSayThatTheyAreBusy(t *testing.T) {
	t.Parallel()
	u := &riverUI{slots: make(chan struct{}, 1), within: time.Millisecond, log: slog.New(slog.DiscardHandler), unread: newUnread(1<<20, time.Minute)}
	u.slots <- struct{}{}
	w := httptest.NewRecorder()
	u.limited(w, httptest.NewRequest(http.MethodGet, prefix+"/api/queues", http.NoBody), func(*answer, *http.Request) { t.Error("it has no turn") })
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"message": "these pages make 4 answers at once, and no turn has come within 1ms: ask again, with fewer pages open"}`, w.Body.String())
}
