package pages

import (
	"bytes"
	"context"
	_ "embed" // the script before River's own
	"errors"
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
// large.
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
		slots: make(chan struct{}, maxAnswers), counter: newCounter(pool),
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

// answer is what River's UI has answered, before anybody has seen it.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(part []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(part)
}

// give writes the answer, with another body if that is not nil.
func (a *answer) give(w http.ResponseWriter, body []byte) {
	for _, name := range []string{"Content-Type", "Location", "Vary", "Allow"} {
		if value := a.header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	if body == nil {
		body = a.body.Bytes()
	}
	w.WriteHeader(a.code)
	_, _ = w.Write(body) // who asked may be gone
}

// errTooLong is what a request ends with that the central database has not answered in time.
var errTooLong = errors.New("the central database has not answered in time")

// limited runs do with the limit on what one answer may take. What ends by the limit has been
// answered.
func (u *riverUI) limited(w http.ResponseWriter, r *http.Request, do func(r *http.Request)) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), u.within, errTooLong)
	defer cancel()
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
		do(r.WithContext(ctx))
	case <-ctx.Done():
		u.tooLong(w, r)
	}
}

func (u *riverUI) tooLong(w http.ResponseWriter, r *http.Request) {
	u.log.WarnContext(r.Context(), "a page was not answered in time", "path", r.URL.Path, "within", u.within.String())
	refuse(w, r, http.StatusServiceUnavailable, "the central database has not answered within "+u.within.String()+", which is the limit of these pages: look for fewer jobs, by a state and a kind or a queue; headgate job list goes page by page")
}

// ask hands a request to River's UI. ok is false if it has been answered already, because it
// took too long.
func (u *riverUI) ask(w http.ResponseWriter, r *http.Request) (a *answer, ok bool) {
	a = &answer{header: http.Header{}}
	u.ui.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	if a.code >= http.StatusInternalServerError && errors.Is(context.Cause(r.Context()), errTooLong) {
		u.tooLong(w, r)
		return nil, false
	}
	return a, true
}

// asRiverSays gives River's answer as it is.
func (u *riverUI) asRiverSays(w http.ResponseWriter, r *http.Request) {
	u.limited(w, r, func(r *http.Request) {
		if a, ok := u.ask(w, r); ok {
			a.give(w, nil)
		}
	})
}

// page gives a file of River's UI. Its one page loads our script before its own. However a path
// is written, none of the API comes this way.
func (u *riverUI) page(w http.ResponseWriter, r *http.Request) {
	if !reads(r) || strings.HasPrefix(r.URL.Path, prefix+"/api") {
		refuse(w, r, http.StatusNotFound, "these pages do not answer "+r.Method+" here")
		return
	}
	a := &answer{header: http.Header{}}
	u.ui.ServeHTTP(a, r)
	a.give(w, bytes.Replace(a.body.Bytes(), []byte(moduleTag), []byte(scriptTag+moduleTag), 1))
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
