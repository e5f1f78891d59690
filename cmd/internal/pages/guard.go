package pages

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// policy lets River's UI work, and nothing from elsewhere. River's UI makes style elements;
// styles run nothing.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// maxBody bounds what a request may bring: the ids of 1,000 jobs.
const maxBody = 64 << 10

// guard stands before every request.
type guard struct {
	names    []string // by which the pages may be asked for
	write    bool
	entrance *entrance // nil without writes
}

// before returns next behind the guards.
func (g *guard) before(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		if says := g.refuses(r); says != "" {
			refuse(w, r, http.StatusForbidden, says)
			return
		}
		if r.URL.Path == "/favicon.ico" { // browsers ask by themselves, without the cookie
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if g.entrance != nil && !g.entrance.lets(w, r) {
			return
		}
		if reads(r) {
			next.ServeHTTP(w, r)
			return
		}
		switch {
		case origin.Check(r) != nil:
			refuse(w, r, http.StatusForbidden, "this request comes from a page of another origin, and changes nothing here: open the pages at the address that the start has printed")
		case !g.write:
			refuse(w, r, http.StatusForbidden, "these pages only read: start with --ui-write to cancel, retry, pause and resume here, or use the headgate commands job and pause")
		case !isJSON(r):
			refuse(w, r, http.StatusUnsupportedMediaType, "a request that changes something must be application/json")
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			next.ServeHTTP(w, r)
		}
	})
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// isJSON says that no form of another page can have sent the request: browsers ask before
// they send application/json or PUT elsewhere, and nobody says yes here. A PUT of River's UI
// has no body, and so no type.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json" || r.Method == http.MethodPut && r.ContentLength == 0 && r.Header.Get("Content-Type") == ""
}

// secure sets what browsers are told with every answer.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// refuses says why a request is not for these pages, "" if it may be.
//
// A name that leads to loopback is not enough: any page may give its own name the address
// 127.0.0.1 once it is open. A proxy brings others to loopback; one that adds no header
// speaks HTTP/1.0, as nginx does unless told otherwise, or is betrayed by what a page says
// of where it came from.
func (g *guard) refuses(r *http.Request) string {
	if what := proxied(r); what != "" {
		return "this request comes through a proxy (" + what + "), and these pages are for this machine's own users only, because they ask nobody for a password yet: open them on the machine itself, or through ssh -L"
	}
	if !g.knows(r.Host) {
		return "these pages are not asked for by this name: use localhost, 127.0.0.1 or [::1], or allow the name with --listen-name"
	}
	if strings.HasPrefix(r.URL.Path, prefix+"/api/") {
		for _, header := range []string{"Origin", "Referer"} {
			if from := r.Header.Get(header); from != "" && reads(r) && !g.knowsPage(from) {
				return "this request comes from a page of another name (" + header + "): open the pages at the address that the start has printed"
			}
		}
	}
	return ""
}

// proxied names what shows that a request has come through a proxy.
func proxied(r *http.Request) string {
	for name := range r.Header {
		if ofProxy(name) {
			return "header " + name
		}
	}
	if !r.ProtoAtLeast(1, 1) {
		return r.Proto
	}
	return ""
}

// ofProxy says whether a header is one that proxies add: all that begin with X-, because no
// browser adds such by itself and River's UI sends none, and those of the standards.
func ofProxy(header string) bool {
	name := strings.ReplaceAll(strings.ToLower(header), "_", "-")
	return strings.HasPrefix(name, "x-") || slices.ContainsFunc([]string{"forward", "proxy", "client-ip", "connecting-ip", "cdn-loop", "cf-"}, func(part string) bool {
		return strings.Contains(name, part)
	}) || name == "via"
}

// knows says that a request's Host is a name of these pages, with any port.
func (g *guard) knows(host string) bool {
	name, ok := hostName(host)
	return ok && slices.Contains(g.names, name)
}

// hostName is the name or the address of a Host, which is one of these two with or without a
// port. An address of IPv6 stands in brackets.
func hostName(host string) (name string, ok bool) {
	name, port, ported := strings.Cut(host, ":")
	if inner, is := strings.CutPrefix(host, "["); is {
		inner, rest, closed := strings.Cut(inner, "]")
		at, err := netip.ParseAddr(inner)
		if !closed || err != nil || !at.Is6() || at.Zone() != "" || rest != "" && rest[0] != ':' {
			return "", false
		}
		name, port, ported = at.String(), strings.TrimPrefix(rest, ":"), rest != ""
	}
	if ported {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '+' {
			return "", false
		}
	}
	return strings.ToLower(name), name != ""
}

func (g *guard) knowsPage(address string) bool {
	page, err := url.Parse(address)
	return err == nil && g.knows(page.Host)
}

// refuse answers with one sentence, in the form in which River's UI shows it, or as text.
func refuse(w http.ResponseWriter, r *http.Request, code int, says string) {
	h := w.Header()
	if strings.HasPrefix(r.URL.Path, prefix+"/api/") {
		h.Set("Content-Type", "application/json; charset=utf-8")
		text, _ := json.Marshal(map[string]string{"message": says}) // never fails
		w.WriteHeader(code)
		_, _ = w.Write(text) // who asked may be gone
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(says + "\n")) //nolint:gosec // plain text, and nosniff; who asked may be gone
}
