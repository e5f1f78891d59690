//go:build faults

package pages_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/pages"
	"github.com/headgate/headgate/jobs"
)

// browser is Debian's Chromium, and what it has complained of.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string

	mu       sync.Mutex
	complain []string
}

// openBrowser starts Chromium. It resolves no name but the two that lead to loopback, as a
// page that rebinds its name and a proxy's name do.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	require.NoError(t, err, "Debian: apt-get install chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // root has none
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1, MAP jobs.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); cancel() }) // its files go after it has gone
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, shots: os.Getenv("HEADGATE_SCREENSHOTS")}
	if b.shots == "" {
		b.shots = t.TempDir()
	}
	require.NoError(t, chromedp.Listen(ctx, b.hear))
	_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	return b
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.complain = append(b.complain, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
	case *runtime.EventExceptionThrown:
		b.complain = append(b.complain, "exception: "+e.ExceptionDetails.Text)
	}
}

// complaints are what Chromium has said of the pages since it was last asked.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.complain
	b.complain = nil
	return all
}

// do carries steps out.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.shot("failed")
		b.t.Fatalf("%v; the page says: %s; complaints: %v", err, b.text(), b.complaints())
	}
}

func (b *browser) open(address string) { b.t.Helper(); b.do(chromedp.Navigate(address)) }

// evaluate is what a script in the page returns.
func evaluate[T any](b *browser, script string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, script)
	return value
}

// text is what the page shows, "" while there is no page.
func (b *browser) text() string {
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
	return text
}

// reads waits until the page shows a text.
func (b *browser) reads(text string) {
	b.t.Helper()
	for until := time.Now().Add(time.Minute); !strings.Contains(b.text(), text); {
		if time.Now().After(until) {
			b.shot("failed")
			b.t.Fatalf("the page does not say %q, but: %s", text, b.text())
		}
	}
}

// press presses the button of the page that says so.
func (b *browser) press(says string) {
	b.t.Helper()
	b.do(chromedp.Click(`//button[normalize-space(.)="`+says+`"]`, chromedp.NodeVisible))
}

// shot keeps a picture of the page.
func (b *browser) shot(name string) {
	b.t.Helper()
	if picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot()); err == nil {
		require.NoError(b.t, os.WriteFile(filepath.Join(b.shots, name+".png"), picture, 0o600))
	}
}

// shotsOf keeps four pictures of a page, light and dark, wide and narrow.
func (b *browser) shotsOf(name, address, shows string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		require.NoError(b.t, err)
		for size, wide := range map[string]int64{"wide": 1280, "narrow": 390} {
			b.do(chromedp.EmulateViewport(wide, 900), chromedp.Navigate(address))
			b.reads(shows)
			b.shot(name + "-" + scheme + "-" + size)
			require.False(b.t, evaluate[bool](b, `document.documentElement.scrollWidth > document.documentElement.clientWidth`), "%s %s scrolls sideways", name, size)
		}
	}
	b.do(chromedp.EmulateViewport(1280, 900))
}

// The whole of River's UI as a person uses it: list, open, cancel, retry, pause, resume.
func TestFaultsPagesInABrowser(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write = true })
	s.work()
	const secret = "planted-secret-4711"
	runs, fails, done := s.enqueue(Note{Text: secret, Waits: true}), s.enqueue(Note{Text: secret, Fails: true}), s.enqueue(Note{Text: secret})
	require.Equal(t, runs, receive(t, s.began))
	s.until(fails, jobs.Discarded)
	s.until(done, jobs.Succeeded)
	job := func(uid string) string { return fmt.Sprintf("%s/river/jobs/%d", s.base, s.env.RowOf(uid)) }
	b := openBrowser(t)
	b.open(s.base + "/river/")
	b.reads("these pages can change things, so they open with the one-time address")
	b.complaints() // of the 401
	b.open(s.next())
	b.reads("note")
	require.NotContains(t, evaluate[string](b, `location.href`), "token")
	for name, page := range map[string][2]string{
		"list": {s.base + "/river/jobs?state=completed", "note"}, "job": {job(fails), "job_error"}, "running": {job(runs), "note"}, "queues": {s.base + "/river/queues", "default"},
	} {
		b.shotsOf(name, page[0], page[1])
		require.NotContains(t, evaluate[string](b, `document.documentElement.outerHTML`), secret)
	}
	require.Empty(t, b.complaints(), "the policy keeps nothing of it out")

	b.open(job(runs))
	b.press("Cancel")
	require.Equal(t, jobs.Cancelled, s.env.Wait(runs).State)
	b.reads("Cancelled")
	after, err := s.env.Client.Job(t.Context(), runs)
	require.NoError(t, err)
	require.Equal(t, "asked for in River's UI", after.Cancel.Reason, "our client did it")

	b.open(s.base + "/river/jobs?state=discarded")
	b.do(chromedp.Click(`//a[normalize-space(.)="note"]`, chromedp.NodeVisible))
	b.reads("Job Details")
	b.press("Retry")
	s.env.WaitFor(fails, func(o jobs.Outcome) bool { return o.Attempt == 2 })

	b.open(s.base + "/river/queues")
	const toggle = `//tr[contains(., "default")]//button`
	b.reads("Active")
	b.do(chromedp.Click(toggle, chromedp.NodeVisible))
	b.reads("Paused")
	b.shot("paused")
	waits := s.enqueue(Note{})
	why, err := s.env.Explain.Explain(t.Context(), waits)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(why), "paused")
	b.do(chromedp.Click(toggle, chromedp.NodeVisible))
	require.Eventually(t, func() bool { return !strings.Contains(b.text(), "Paused") }, time.Minute, 50*time.Millisecond)
	s.until(waits, jobs.Succeeded)
	require.Empty(t, b.complaints())

	b.open(job(done))
	b.press("Delete")
	b.press("Delete job")
	b.reads("jobs are not deleted by hand")
	b.reads("Job Details")
	b.shot("delete-refused")
	require.Equal(t, jobs.Succeeded, s.state(done))
}

// What other pages try: a page of another origin, a name that is led to loopback, and proxies.
func TestFaultsPagesAgainstOtherPages(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write = true })
	uid := s.enqueue(Note{})
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<p>another page</p>")
	}))
	defer other.Close()
	_, port, err := net.SplitHostPort(s.server.Addr().String())
	require.NoError(t, err)
	_, otherPort, err := net.SplitHostPort(strings.TrimPrefix(other.URL, "http://"))
	require.NoError(t, err)
	b := openBrowser(t)
	b.open(s.next())
	b.reads("No jobs found")

	// From another host, and from another port of this one, to which the cookie goes along.
	post := `fetch("` + s.base + path("/jobs/cancel") + `", {method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": "text/plain"}, body: '` + s.ids(uid) + `'}).then(r => r.type, e => "refused: " + e)`
	form := `{
		const form = Object.assign(document.createElement("form"), {method: "POST", enctype: "text/plain", action: "` + s.base + path("/jobs/cancel") + `"});
		form.append(Object.assign(document.createElement("input"), {name: '` + strings.TrimSuffix(s.ids(uid), "}") + `, "x', value: '": 1}'}));
		document.body.append(form);
		form.submit();
	}`
	for _, from := range []string{"http://evil.example:" + otherPort, "http://127.0.0.1:" + otherPort} {
		b.open(from)
		b.reads("another page")
		require.Equal(t, "refused: TypeError: Failed to fetch", evaluate[string](b, post), "it is sent, and the answer is not for this page")
		require.Contains(t, evaluate[string](b, `fetch("`+s.base+path("/jobs")+`", {credentials: "include"}).then(r => r.text(), e => "refused: " + e)`), "refused: ", "nothing is read")
		_ = evaluate[any](b, form+`; 1`)
		b.reads("message")
		require.Contains(t, b.text(), map[bool]string{true: "one-time address", false: "a page of another origin"}[strings.Contains(from, "evil")], from)
		require.Equal(t, jobs.Waiting, s.state(uid))
	}

	// A page rebinds its name to loopback: it is this very server, and answers nothing.
	b.open("http://evil.example:" + port + "/river/")
	b.reads("these pages are not asked for by this name")
	b.open("http://evil.example:" + port + path("/jobs"))
	b.reads("these pages are not asked for by this name")

	// Control: our own page does the same.
	b.open(s.base + "/river/")
	require.Equal(t, "200", evaluate[string](b, strings.NewReplacer("no-cors", "same-origin", "text/plain", "application/json", "r.type", "String(r.status)").Replace(post)))
	require.Equal(t, jobs.Cancelled, s.state(uid))
}

// nginxOf is an nginx before the pages that is configured in some way.
func nginxOf(t *testing.T, to, settings string) (port string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx")
	}
	require.NoError(t, err, "Debian: apt-get install nginx-light")
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err = net.SplitHostPort(free.Addr().String())
	require.NoError(t, err)
	require.NoError(t, free.Close())
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755)) // nginx's worker may be another user
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
    access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
    server { listen 127.0.0.1:%[2]s; location / { proxy_pass %[3]s; %[4]s } }
}`, dir, port, to, settings), 0o600))
	cmd := exec.CommandContext(t.Context(), path, "-c", config, "-e", filepath.Join(dir, "error.log"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // it was interrupted
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	return port
}

// A proxy on this machine would open the pages to everybody: each is refused with a sentence,
// the one that says nothing of itself too.
func TestFaultsPagesBehindNginx(t *testing.T) {
	t.Parallel()
	s := open(t, nil) // read-only: nothing else would stand before the jobs
	s.enqueue(Note{})
	b := openBrowser(t)
	for _, x := range []struct{ name, settings, says string }{
		{"as it comes", ``, "this request comes through a proxy (HTTP/1.0)"},
		{"as most are", `proxy_http_version 1.1; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`, "this request comes through a proxy (header X-Forwarded-For)"},
		{"RFC 7239", `proxy_http_version 1.1; proxy_set_header Forwarded "for=$remote_addr";`, "this request comes through a proxy (header Forwarded)"},
		{"Via", `proxy_http_version 1.1; proxy_set_header Via "1.1 nginx";`, "this request comes through a proxy (header Via)"},
		{"the browser's Host", `proxy_http_version 1.1; proxy_set_header Host $host;`, "these pages are not asked for by this name"},
		{"nothing at all", `proxy_http_version 1.1; proxy_set_header Connection "";`, "comes from a page of another name (Referer)"},
	} {
		port := nginxOf(t, s.base, x.settings)
		b.open("http://jobs.example:" + port + "/river/jobs?state=available")
		b.reads(x.says)
		b.shot("nginx-" + strings.ReplaceAll(x.name, " ", "-"))
	}
	b.open(s.base + "/river/jobs?state=available")
	b.reads("note")
}
