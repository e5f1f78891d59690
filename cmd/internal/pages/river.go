package pages

import (
	"bytes"
	"context"
	_ "embed" // the script before River's own
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"riverqueue.com/riverui"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/migrations"
)

// prefix is where River's UI is.
const prefix = "/river"

// maxJobs bounds a list, and maxAnswers the answers that are made at once: arguments may be
// large. An answer is made before anybody reads it (give.go).
const (
	maxJobs    = 200
	maxAnswers = 4
)

// riverUI is River's own UI with our routes before its own.
type riverUI struct {
	ui      http.Handler
	central cli.Central
	pool    *pgxpool.Pool // the pages' own
	full    bool
	actor   string
	within  time.Duration
	log     *slog.Logger
	slots   chan struct{}
	unread  *unread
	counter *counter
}

// newRiver makes River's UI on a pool. Its services are not started: they count all rows of
// the queue now and then, whether anybody looks or not. Without these counts it estimates.
//
// The client is told which schema has the queue, so that workers hear of a pause at once, and
// not when they next look, a minute later.
func newRiver(ctx context.Context, cfg Config, pool *pgxpool.Pool) (*riverUI, error) {
	log := newSeldom(cfg.Log.With("pages", "river"))
	ctx, cancel := context.WithTimeout(ctx, actWithin)
	defer cancel()
	schema, err := migrations.Queue(ctx, pool)
	if err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: log, Schema: migrations.RiverSchema(schema)})
	if err != nil {
		return nil, err
	}
	full := cfg.Detail == DetailFull
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints[pgx.Tx](client, nil), Logger: log, Prefix: prefix, JobListHideArgsByDefault: !full,
	})
	if err != nil {
		return nil, err
	}
	return &riverUI{
		ui: ui, central: cfg.Central, pool: pool, full: full, actor: cfg.Actor, within: cfg.Within, log: log,
		slots: make(chan struct{}, maxAnswers), unread: newUnread(cfg.Unread, cfg.Read), counter: newCounter(pool),
	}, nil
}

// mount adds the routes that are answered. A route of River's API that is not here is
// refused, because it could tell or change what nobody has thought about: TestRoutesOfRiver
// lists all that there are.
func (u *riverUI) mount(mux *http.ServeMux) {
	api := prefix + "/api"
	mux.HandleFunc("GET "+api+"/jobs", u.jobs)
	mux.HandleFunc("GET "+api+"/jobs/{id}", u.job)
	mux.HandleFunc("GET "+api+"/queues", u.queues)
	mux.HandleFunc("GET "+api+"/queues/{name}", u.queue)
	for _, as := range []string{"/autocomplete", "/features", "/health-checks/{name}", "/version"} {
		mux.HandleFunc("GET "+api+as, u.asRiverSays)
	}
	mux.HandleFunc("GET "+api+"/states", u.states)
	mux.HandleFunc("POST "+api+"/jobs/cancel", u.cancel)
	mux.HandleFunc("POST "+api+"/jobs/retry", u.retry)
	mux.HandleFunc("POST "+api+"/jobs/delete", u.delete)
	mux.HandleFunc("PUT "+api+"/queues/{name}/pause", u.asRiverSays)
	mux.HandleFunc("PUT "+api+"/queues/{name}/resume", u.resume)
	mux.HandleFunc(api+"/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, http.StatusNotFound, "these pages do not answer "+r.Method+" here")
	})
	mux.HandleFunc("GET "+prefix+"/headgate.js", script)
	mux.HandleFunc(prefix+"/", u.page)
}

// errTooLong is what a request ends with that the central database has not answered in time.
var errTooLong = errors.New("the central database has not answered in time")

// limited makes an answer with the limit on what one may take, and gives it. Who reads the
// answer slowly keeps no slot from others. None of these requests needs a body, which could be
// slow, too.
func (u *riverUI) limited(w http.ResponseWriter, r *http.Request, do func(a *answer, r *http.Request)) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), u.within, errTooLong)
	defer cancel()
	a := newAnswer()
	select {
	case u.slots <- struct{}{}:
		u.turn(a, r.WithContext(ctx), do)
	case <-ctx.Done():
		u.log.WarnContext(r.Context(), "a page has waited for other pages in vain", "path", r.URL.Path, "within", u.within.String())
		refuse(a, r, http.StatusServiceUnavailable, fmt.Sprintf("these pages make %d answers at once, and no turn has come within %s: ask again, with fewer pages open", maxAnswers, u.within))
	}
	u.give(w, r, a)
}

func (u *riverUI) turn(a *answer, r *http.Request, do func(a *answer, r *http.Request)) {
	defer func() { <-u.slots }()
	r.Body = http.NoBody
	do(a, r)
}

func (u *riverUI) tooLong(w http.ResponseWriter, r *http.Request) {
	u.log.WarnContext(r.Context(), "a page was not answered in time", "path", r.URL.Path, "within", u.within.String())
	refuse(w, r, http.StatusServiceUnavailable, "the central database has not answered within "+u.within.String()+", which is the limit of these pages: look for fewer jobs, by a state and a kind or a queue; headgate job list goes page by page")
}

// ask hands a request to River's UI. What has taken too long is said in our words.
func (u *riverUI) ask(a *answer, r *http.Request) {
	u.ui.ServeHTTP(a, r)
	if a.code >= http.StatusInternalServerError && errors.Is(context.Cause(r.Context()), errTooLong) {
		*a = *newAnswer()
		u.tooLong(a, r)
	}
}

// asRiverSays gives River's answer as it is.
func (u *riverUI) asRiverSays(w http.ResponseWriter, r *http.Request) { u.limited(w, r, u.ask) }

// page gives a file of River's UI. Its one page loads our script before its own. However a path
// is written, none of the API comes this way.
func (u *riverUI) page(w http.ResponseWriter, r *http.Request) {
	if !reads(r) || strings.HasPrefix(r.URL.Path, prefix+"/api") {
		refuse(w, r, http.StatusNotFound, "these pages do not answer "+r.Method+" here")
		return
	}
	a := newAnswer()
	u.ui.ServeHTTP(a, r)
	a.body = bytes.Replace(a.body, []byte(moduleTag), []byte(scriptTag+moduleTag), 1)
	u.give(w, r, a)
}

const (
	moduleTag = `<script type="module"`
	scriptTag = `<script src="` + prefix + `/headgate.js"></script>` + "\n    "
)

//go:embed headgate.js
var scriptText []byte

func script(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	_, _ = w.Write(scriptText) // who asked may be gone
}

// bound keeps a list within what these pages show at once.
func bound(r *http.Request) *http.Request {
	query := r.URL.Query()
	if n, err := strconv.Atoi(query.Get("limit")); err != nil || n <= maxJobs {
		return r
	}
	query.Set("limit", strconv.Itoa(maxJobs))
	r = r.Clone(r.Context())
	r.URL.RawQuery = query.Encode()
	return r
}
