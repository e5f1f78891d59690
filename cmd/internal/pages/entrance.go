package pages

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// tokenParam is where the one-time address has its token.
const tokenParam = "token"

// maxSessions bounds the browsers that are in at once; the one that came first goes.
const maxSessions = 16

// digest is what is kept of a token: a memory dump opens nothing.
type digest [sha256.Size]byte

func (d digest) is(token string) bool {
	other := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(d[:], other[:]) == 1
}

// session is one browser that has opened the one-time address.
type session struct {
	digest digest
	until  time.Time
}

// entrance lets in who opens the one-time address, and then who has the cookie.
type entrance struct {
	cookie   string // its name: cookies are of a host, whatever the port
	keep     time.Duration
	address  string
	announce func(address string)
	log      *slog.Logger

	mu       sync.Mutex
	next     digest // of the one-time address that nobody has used
	sessions []session
}

// newEntrance announces the first one-time address.
func newEntrance(at net.Addr, cfg Config, address string) *entrance {
	_, port, _ := net.SplitHostPort(at.String()) // a listener's own address
	e := &entrance{cookie: "headgate-pages-" + port, keep: cfg.Session, address: address, announce: cfg.Announce, log: cfg.Log}
	e.announce(e.renew())
	return e
}

// renew makes the next one-time address. Who calls holds mu, or is alone.
func (e *entrance) renew() string {
	token := rand.Text()
	e.next = sha256.Sum256([]byte(token))
	return e.address + "?" + url.Values{tokenParam: {token}}.Encode()
}

// lets says whether a request may go on; otherwise it has been answered.
func (e *entrance) lets(w http.ResponseWriter, r *http.Request) bool {
	query := r.URL.Query()
	if token := query.Get(tokenParam); token != "" && r.Method == http.MethodGet {
		e.enter(w, r, token, query)
		return false
	}
	if cookie, err := r.Cookie(e.cookie); err == nil && e.isIn(cookie.Value) {
		return true
	}
	refuse(w, r, http.StatusUnauthorized, "these pages can change things, so they open with the one-time address that the start has printed; if you have just opened it, load this page again")
	return false
}

// enter takes a one-time address: the browser gets a cookie, and goes on to the address
// without the token.
func (e *entrance) enter(w http.ResponseWriter, r *http.Request, token string, query url.Values) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.next.is(token) {
		refuse(w, r, http.StatusUnauthorized, "this one-time address has been used, or is of a former start: open the last one that was printed")
		return
	}
	secret, now := rand.Text(), time.Now()
	e.sessions = slices.DeleteFunc(e.sessions, func(s session) bool { return !s.until.After(now) })
	if len(e.sessions) >= maxSessions {
		e.sessions = e.sessions[1:]
	}
	e.sessions = append(e.sessions, session{sha256.Sum256([]byte(secret)), now.Add(e.keep)})
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // loopback has no TLS, and a Secure cookie would not come back
		Name: e.cookie, Value: secret, Path: prefix + "/", MaxAge: int(e.keep.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	query.Del(tokenParam)
	to := url.URL{Path: prefix + "/", RawQuery: query.Encode()}
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
	e.log.Info("a browser has opened the pages by their one-time address", "until", now.Add(e.keep).UTC().Format(time.RFC3339))
	e.announce(e.renew())
}

// isIn says that a cookie is of a browser that is in. All sessions are compared, so that the
// time taken tells nothing.
func (e *entrance) isIn(secret string) (in bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, s := range e.sessions {
		if s.digest.is(secret) && s.until.After(now) {
			in = true
		}
	}
	return in
}
