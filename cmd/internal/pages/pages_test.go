package pages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/cmd/internal/pages"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) { jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool) }

// Note is a job that says what it is told, or waits until it is cancelled.
type Note struct {
	Text  string `json:"text"`
	Fails bool   `json:"fails"`
	Waits bool   `json:"waits"`
}

func (Note) Kind() string { return "note" }

func (Note) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1} }

const schema = `CREATE TABLE notes (org_id bigint NOT NULL, job_uid uuid NOT NULL); GRANT ALL ON notes TO headgate_job`

// site is a central database with a tenant and a worker, and the pages before it.
type site struct {
	t   *testing.T
	env *jobstest.Env
	db  *jobstest.Database
	log *lines

	server    *pages.Server
	base      string // http://127.0.0.1:PORT
	announced chan string
	began     chan string // the UIDs of jobs that wait
	client    *http.Client
}

// lines is a log that is kept.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open serves the pages of a fresh central database; change may be nil.
func open(t *testing.T, change func(cfg *pages.Config)) *site {
	t.Helper()
	env := jobstest.New(t)
	s := &site{t: t, env: env, log: &lines{}, announced: make(chan string, 100), began: make(chan string, 100)}
	s.db = env.Database("acme", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	env.Tenant("acme", "acme")
	s.serve(change)
	return s
}

func (s *site) serve(change func(cfg *pages.Config)) {
	s.t.Helper()
	database, err := pgxpool.ParseConfig(s.env.URL)
	require.NoError(s.t, err)
	cfg := pages.Config{
		Central:  cli.Central{Pool: s.env.Pool, Catalog: s.env.Catalog, Client: s.env.Client, Schedules: s.env.Schedules, Admission: s.env.Admission, Explain: s.env.Explain},
		Database: database, Pooled: jobstest.Bounced(), Actor: "ana", Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Announce: func(address string) { s.announced <- address },
	}
	if change != nil {
		change(&cfg)
	}
	s.server, err = pages.Listen(s.t.Context(), "0", cfg)
	require.NoError(s.t, err)
	server := s.server // another one may follow
	s.t.Cleanup(func() { _ = server.Close() })
	s.base = "http://" + s.server.Addr().String()
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	s.client = &http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// work starts a worker with the kind note.
func (s *site) work() {
	s.env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Note]) error {
			if _, err := tx.Exec(ctx, `INSERT INTO notes VALUES ($1, $2)`, job.Tenant.OrgID, job.UID); err != nil {
				return err
			}
			switch {
			case job.Args.Fails:
				return errors.New("the mailer refuses " + job.Args.Text)
			case job.Args.Waits:
				s.began <- job.UID
				_, err := tx.Exec(ctx, `SELECT pg_sleep(600)`)
				return err
			}
			return nil
		})
	})
}

// enter opens the last one-time address.
func (s *site) enter() {
	s.t.Helper()
	got := s.send(http.MethodGet, strings.TrimPrefix(s.next(), s.base), "", nil)
	require.Equal(s.t, http.StatusSeeOther, got.code, got.body)
}

func (s *site) next() (address string) { s.t.Helper(); return receive(s.t, s.announced) }

// receive waits for what comes.
func receive(t *testing.T, from chan string) (text string) {
	t.Helper()
	select {
	case text = <-from:
	case <-time.After(time.Minute):
		t.Fatal("nothing has come for a minute")
	}
	return text
}

type reply struct {
	code   int
	body   string
	header http.Header
}

// send asks the pages as a browser or a stranger would.
func (s *site) send(method, path, body string, header map[string]string) reply {
	s.t.Helper()
	var content io.Reader = http.NoBody
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, content)
	require.NoError(s.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	answer, err := s.client.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return reply{answer.StatusCode, string(text), answer.Header}
}

func (s *site) get(path string) reply { s.t.Helper(); return s.send(http.MethodGet, path, "", nil) }

// says is the sentence of a refusal.
func (s *site) says(r reply) string {
	s.t.Helper()
	var answer struct{ Message string }
	require.NoError(s.t, json.Unmarshal([]byte(r.body), &answer), r.body)
	return answer.Message
}

// ids is the body of a request about jobs.
func (s *site) ids(uids ...string) string {
	var list []string
	for _, uid := range uids {
		list = append(list, fmt.Sprintf(`"%d"`, s.env.RowOf(uid)))
	}
	return `{"ids": [` + strings.Join(list, ", ") + `]}`
}

func (s *site) enqueue(args Note) (uid string) {
	s.t.Helper()
	job, err := s.env.Client.Enqueue(s.t.Context(), "acme", args, nil)
	require.NoError(s.t, err)
	return job.UID
}

func (s *site) state(uid string) jobs.State {
	s.t.Helper()
	job, err := s.env.Client.Job(s.t.Context(), uid)
	require.NoError(s.t, err)
	return job.State
}

func (s *site) until(uid string, state jobs.State) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.state(uid) == state }, time.Minute, 20*time.Millisecond, state)
}

func path(of ...any) string { return "/river/api" + fmt.Sprint(of...) }

// Only loopback is listened at.
func TestAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"9190": "127.0.0.1:9190", ":9190": "127.0.0.1:9190", "127.0.0.1:1": "127.0.0.1:1", "127.0.0.2:1": "127.0.0.2:1", "[::1]:9190": "[::1]:9190", "localhost:0": "127.0.0.1:0",
	} {
		got, err := pages.Address(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for text, says := range map[string]string{
		"0.0.0.0:9190": `--listen: "0.0.0.0:9190" can be reached from other machines, and the pages ask nobody for a password yet: give 127.0.0.1, [::1] or localhost, and come from elsewhere by ssh -L 9190:127.0.0.1:9190 HOST`,
		"[::]:9190":    "can be reached from other machines", "192.168.1.4:9190": "can be reached from other machines", "jobs.internal:80": "can be reached from other machines",
		"x": "no port of 0 to 65535", "127.0.0.1": "no port", "1:2:3": "is no address", "127.0.0.1:70000": "no port of 0 to 65535",
	} {
		_, err := pages.Address(text)
		require.ErrorContains(t, err, says, text)
		require.ErrorAs(t, err, new(*cli.UsageError))
	}
}

// Who is no user of this machine's browser is refused with a sentence, and changes nothing.
func TestGuards(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write, cfg.Names = true, []string{"Jobs.Internal"} })
	s.enter()
	uid := s.enqueue(Note{})
	cancel, page := path("/jobs/cancel"), s.base+"/river/jobs"
	cookie := s.client.Jar.Cookies(mustParse(t, page))[0] // a jar goes by the Host
	for _, x := range []struct {
		name, method, path string
		header             map[string]string
		code               int
		says               string
	}{
		{"a name that leads here", http.MethodGet, path("/jobs"), map[string]string{"Host": "evil.example"}, 403, "not asked for by this name"},
		{"the same with our port", http.MethodGet, path("/jobs"), map[string]string{"Host": "evil.example:9190"}, 403, "not asked for by this name"},
		{"a name that begins as ours", http.MethodGet, path("/jobs"), map[string]string{"Host": "localhost.evil.example"}, 403, "not asked for by this name"},
		{"localhost", http.MethodGet, path("/jobs"), map[string]string{"Host": "localhost:1"}, 200, ""},
		{"IPv6", http.MethodGet, path("/jobs"), map[string]string{"Host": "[::1]:9190"}, 200, ""},
		{"a name that is given", http.MethodGet, path("/jobs"), map[string]string{"Host": "jobs.internal"}, 200, ""},
		{"X-Forwarded-For", http.MethodGet, path("/jobs"), map[string]string{"X-Forwarded-For": "10.0.0.1"}, 403, "comes through a proxy (header X-Forwarded-For)"},
		{"X-Forwarded-Proto", http.MethodGet, path("/jobs"), map[string]string{"X-Forwarded-Proto": "https"}, 403, "comes through a proxy"},
		{"X-Real-IP", http.MethodGet, path("/jobs"), map[string]string{"X-Real-IP": "10.0.0.1"}, 403, "comes through a proxy"},
		{"Forwarded", http.MethodGet, path("/jobs"), map[string]string{"Forwarded": "for=10.0.0.1"}, 403, "comes through a proxy"},
		{"Via", http.MethodGet, path("/jobs"), map[string]string{"Via": "1.1 proxy"}, 403, "comes through a proxy"},
		{"a page behind a proxy", http.MethodGet, path("/jobs"), map[string]string{"Referer": "https://jobs.example/river/"}, 403, "comes from a page of another name (Referer)"},
		{"our own page", http.MethodGet, path("/jobs"), map[string]string{"Referer": page}, 200, ""},
		{"a fetch of another origin", http.MethodPost, cancel, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "a page of another origin"},
		{"another port of this host", http.MethodPost, cancel, map[string]string{"Sec-Fetch-Site": "same-site"}, 403, "a page of another origin"},
		{"an old browser", http.MethodPost, cancel, map[string]string{"Origin": "http://evil.example"}, 403, "a page of another origin"},
		{"no origin at all", http.MethodPost, cancel, map[string]string{"Origin": "null"}, 403, "a page of another origin"},
		{"a form", http.MethodPost, cancel, map[string]string{"Content-Type": "text/plain"}, 415, "must be application/json"},
		{"a form's own type", http.MethodPost, cancel, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, "must be application/json"},
		{"another method", http.MethodDelete, path("/jobs/1"), nil, 404, "do not answer DELETE here"},
		{"River Pro's", http.MethodPatch, path("/queues/default"), nil, 404, "do not answer PATCH here"},
		{"River Pro's workflows", http.MethodGet, path("/pro/workflows"), nil, 404, "do not answer GET here"},
	} {
		body := ""
		if x.method != http.MethodGet {
			body = s.ids(uid)
		}
		header := map[string]string{"Cookie": cookie.String()}
		maps.Copy(header, x.header)
		got := s.send(x.method, x.path, body, header)
		require.Equal(t, x.code, got.code, "%s: %s", x.name, got.body)
		if x.says != "" {
			require.Contains(t, s.says(got), x.says, x.name)
		}
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
		require.Contains(t, got.header.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
	}
	require.Equal(t, jobs.Waiting, s.state(uid), "nothing has reached it")

	// A proxy that adds nothing speaks HTTP/1.0.
	require.Contains(t, raw(t, s, "GET /river/ HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"), "comes through a proxy (HTTP/1.0)")
	require.Contains(t, raw(t, s, "GET /river/ HTTP/1.1\r\nHost:\r\n\r\n"), "not asked for by this name")
	require.Contains(t, raw(t, s, "GET /river/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n"), "431")
	require.Equal(t, http.StatusBadRequest, s.send(http.MethodPost, cancel, `{"ids": [`+strings.Repeat("1,", 40<<10)+`1]}`, nil).code)
}

// A Host is parsed as the standard has it, and headers of proxies are refused by one rule.
func TestHostsAndHeaders(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for host, ok := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "127.0.0.1": true, "127.0.0.1:65535": true, "[::1]": true, "[::1]:80": true, "[0:0:0:0:0:0:0:1]:80": true,
		"": false, "[::1": false, "::1]": false, "::1": false, "[::1]80": false, "[::1]]": false, "[[::1]]": false, "[127.0.0.1]": false, "[::1%25lo]": false, "[::1]:": false, "[localhost]": false,
		"[::ffff:127.0.0.1]": false, "localhost:": false, "localhost:0": false, "localhost:+80": false, "localhost:x": false, "localhost:80:80": false, "localhost:65536": false,
		"localhost.": false, "127.1": false, "2130706433": false, "evil.example": false, "evil.example:127.0.0.1": false, "localhost@evil.example": false, "127.0.0.1.evil.example": false,
	} {
		got := raw(t, s, "GET /river/api/version HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if ok {
			require.Contains(t, got, "HTTP/1.1 200", host)
			continue
		}
		require.Regexp(t, "^HTTP/1.1 (403|400)", got, host)
	}
	for header, ok := range map[string]bool{
		"Accept": true, "Cookie": true, "Sec-Fetch-Site": true, "User-Agent": true, "Priority": true, "DNT": true, "Sec-GPC": true, "Upgrade-Insecure-Requests": true, "If-None-Match": true,
		"Forwarded": false, "X-Forwarded-For": false, "X-Forwarded-Host": false, "X-Forwarded": false, "X-Forwarded-Client-Cert": false, "Via": false, "X-Real-IP": false, "x-real-ip": false,
		"X_Forwarded_For": false, "Forwarded-For": false, "X-Client-IP": false, "Client-IP": false, "True-Client-IP": false, "Fastly-Client-IP": false, "X-Cluster-Client-IP": false, "CF-Connecting-IP": false,
		"CF-Ray": false, "CDN-Loop": false, "X-Original-Host": false, "X-Original-URL": false, "X-Rewrite-URL": false, "X-Envoy-External-Address": false, "X-Request-ID": false, "X-Amzn-Trace-Id": false,
		"Proxy-Connection": false, "Proxy-Authorization": false, "X-ProxyUser-Ip": false, "Max-Forwards": false, "X-ARR-ClientIP": false, "X-Remote-User": false,
	} {
		got := raw(t, s, "GET /river/api/version HTTP/1.1\r\nHost: localhost\r\n"+header+": 1\r\n\r\n")
		if ok {
			require.Contains(t, got, "HTTP/1.1 200", header)
			continue
		}
		require.Contains(t, got, "HTTP/1.1 403", header)
		require.Contains(t, got, "comes through a proxy", header)
	}
}

// However many requests are wrong, the log has a line of each text a minute, and River's own
// are not there at level info.
func TestRequestsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Within = 50 * time.Millisecond })
	for range 30 {
		require.Equal(t, http.StatusBadRequest, s.get(path("/jobs/x")).code)
		require.Equal(t, http.StatusBadRequest, s.get(path("/jobs?limit=x")).code)
	}
	require.Empty(t, s.log.String())
	tx, err := s.env.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE river_job`)
	require.NoError(t, err)
	for range 5 {
		require.Equal(t, http.StatusServiceUnavailable, s.get(path("/jobs?state=available")).code)
	}
	require.Equal(t, 1, strings.Count(s.log.String(), "a page was not answered in time"))
}

// Connections that others hold, silent or idle, keep nobody out.
func TestPagesAnswerBesideHeldConnections(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Conns = 8 })
	for i := range 24 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.server.Addr().String())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		if i%2 == 0 {
			_, err = io.WriteString(conn, "GET /river/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
			require.NoError(t, err)
		}
	}
	require.Equal(t, http.StatusOK, s.get(path("/version")).code)
}

// Control: the same request without a guard's reason does what it asks.
func TestGuardsLetTheirOwn(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write = true })
	s.enter()
	uid := s.enqueue(Note{})
	got := s.send(http.MethodPost, path("/jobs/cancel"), s.ids(uid), map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": s.base})
	require.Equal(t, http.StatusOK, got.code, got.body)
	require.Equal(t, jobs.Cancelled, s.state(uid))
}

// Without --ui-write the pages read, and nothing else.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	require.Equal(t, s.base+"/river/", s.next())
	uid := s.enqueue(Note{})
	for method, paths := range map[string][]string{
		http.MethodPost:   {"/jobs/cancel", "/jobs/retry", "/jobs/delete", "/anything"},
		http.MethodPut:    {"/queues/default/pause", "/queues/default/resume"},
		http.MethodPatch:  {"/queues/default"},
		http.MethodDelete: {"/jobs/1"},
	} {
		for _, one := range paths {
			got := s.send(method, path(one), s.ids(uid), nil)
			require.Equal(t, http.StatusForbidden, got.code, one)
			require.Contains(t, s.says(got), "these pages only read: start with --ui-write", one)
		}
	}
	require.Equal(t, jobs.Waiting, s.state(uid))
	for one, contains := range map[string]string{
		"/river/": "headgate.js", "/river/jobs/7": "headgate.js", "/river/headgate.js": "window.fetch", path("/jobs?state=available"): `"kind":"note"`, path("/jobs/", s.env.RowOf(uid)): uid,
		path("/queues"): `"data":`, path("/states"): `"available":{"accuracy":"exact_cached","count":1`, path("/features"): `"job_list_hide_args_by_default":true`, path("/version"): "go_version",
		path("/autocomplete?facet=job_kind"): "note", path("/health-checks/complete"): "ok",
	} {
		got := s.get(one)
		require.Equal(t, http.StatusOK, got.code, "%s %s", one, got.body)
		require.Contains(t, got.body, contains, one)
	}
	require.Equal(t, "/river/", s.get("/").header.Get("Location"))
	require.Equal(t, http.StatusNotFound, s.get(path("/jobs/123456789")).code)
}

// The one-time address opens the pages once, for one browser and for a time; everything else
// stays shut.
func TestOneTimeAddress(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write = true })
	first := strings.TrimPrefix(s.next(), s.base)
	require.Regexp(t, `^/river/\?token=[A-Z2-7]{26}$`, first)
	for _, one := range []string{"/", "/river/", "/river/headgate.js", path("/jobs"), path("/version"), "/river/?token=", "/river/?token=GUESS"} {
		got := s.get(one)
		require.Equal(t, http.StatusUnauthorized, got.code, one)
		require.Contains(t, got.body, "one-time address", one)
	}
	require.Equal(t, http.StatusUnauthorized, s.send(http.MethodPost, path("/jobs/cancel"), `{"ids": ["1"]}`, nil).code)
	require.Equal(t, http.StatusNoContent, s.get("/favicon.ico").code, "a browser asks for it by itself, without the cookie")

	got := s.get(first)
	require.Equal(t, http.StatusSeeOther, got.code)
	require.Equal(t, "/river/", got.header.Get("Location"), "the token is gone from the address")
	cookie := got.header.Get("Set-Cookie")
	for _, part := range []string{"headgate-pages-", "HttpOnly", "SameSite=Strict", "Path=/river/", "Max-Age=43200"} {
		require.Contains(t, cookie, part)
	}
	require.Equal(t, http.StatusOK, s.get(path("/jobs")).code)
	second := s.next()
	require.NotEqual(t, first, second)

	again := s.get(first)
	require.Equal(t, http.StatusUnauthorized, again.code)
	require.Contains(t, again.body, "has been used, or is of a former start")

	// Another browser needs the next address, and has a cookie of its own.
	mine := s.client.Jar
	s.client.Jar, _ = cookiejar.New(nil)
	require.Equal(t, http.StatusUnauthorized, s.get(path("/jobs")).code)
	s.client.Jar.SetCookies(mustParse(t, s.base+"/river/"), []*http.Cookie{{Name: strings.Split(cookie, "=")[0], Value: "GUESS", Path: "/river/"}})
	require.Equal(t, http.StatusUnauthorized, s.get(path("/jobs")).code)
	require.Equal(t, http.StatusSeeOther, s.get(strings.TrimPrefix(second, s.base)).code)
	require.Equal(t, http.StatusOK, s.get(path("/jobs")).code)
	s.client.Jar = mine
	require.Equal(t, http.StatusOK, s.get(path("/jobs")).code)

	// Sixteen others push the first one out; the log has no token.
	for range 16 {
		s.client.Jar, _ = cookiejar.New(nil)
		s.enter()
	}
	s.client.Jar = mine
	require.Equal(t, http.StatusUnauthorized, s.get(path("/jobs")).code)
	require.NotContains(t, s.log.String(), "token=")
}

// A browser stays in for a time only.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write, cfg.Session = true, time.Nanosecond })
	token, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.next(), http.NoBody)
	require.NoError(t, err)
	answer, err := s.client.Do(token)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	cookies := answer.Cookies()
	require.Len(t, cookies, 1)
	got := s.send(http.MethodGet, path("/jobs"), "", map[string]string{"Cookie": cookies[0].Name + "=" + cookies[0].Value})
	require.Equal(t, http.StatusUnauthorized, got.code)
}

func mustParse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u
}
