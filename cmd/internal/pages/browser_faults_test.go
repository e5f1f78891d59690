//go:build faults

package pages_test

import (
	"context"
	"fmt"
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
	require.Empty(t, b.complaints())
}

var _ = httptest.NewServer
var _ = http.StatusOK
