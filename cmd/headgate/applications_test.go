package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/dnstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// post sends a request for a host to an address, and returns the status and the body. It
// waits until somebody listens there.
func post(t *testing.T, addr, host, path string) (status int, body string) {
	t.Helper()
	require.Eventually(t, func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, nil)
		require.NoError(t, err)
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // it was read
		status, body = answer.StatusCode, string(text)
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	return status, body
}

// The program of docs/applications.md serves the tenant of the host, in whose database the
// job has its effect, learns of a new domain without a restart, and ends in order.
func TestTheProgramOfAnApplication(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
CREATE TABLE sent (org_id bigint NOT NULL, invoice int NOT NULL);
GRANT SELECT, INSERT ON sent TO headgate_job`})
	acme := env.Tenant("acme", "db")
	port, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := port.Addr().String()
	program, output := exec.Command(pageProgram(t, "applications.md", 85)), newWatched()
	require.NoError(t, port.Close())
	program.Env = append(os.Environ(), "DATABASE_URL="+env.URL, "HEADGATE_KEY="+env.Key, "LISTEN="+addr)
	program.Stdout, program.Stderr = output, output
	require.NoError(t, program.Start())
	t.Cleanup(func() { _ = program.Process.Kill() }) // an error says that it has ended

	status, body := post(t, addr, "acme.example.com", "/invoices/7")
	require.Equal(t, http.StatusNotFound, status, output)
	require.Equal(t, "There is no such tenant.\n", body)
	c.ok("tenant", "domain", "add", "acme", "acme.example.com", "--subdomain")
	require.Eventually(t, func() bool {
		status, body = post(t, addr, "acme.example.com", "/invoices/7")
		return status == http.StatusAccepted
	}, time.Minute, 5*time.Millisecond)
	require.Regexp(t, `^accepted for acme as [0-9a-f-]{36}\n$`, body)
	uid := strings.Fields(body)[4]
	require.Equal(t, jobs.Succeeded, env.Wait(uid).State)
	var sent string
	require.NoError(t, db.Pool.QueryRow(t.Context(), `SELECT string_agg(org_id || ' ' || invoice, ', ') FROM sent`).Scan(&sent))
	require.Equal(t, fmt.Sprintf("%d 7", acme.OrgID), sent)
	status, _ = post(t, addr, "acme.example.com", "/invoices/seven")
	require.Equal(t, http.StatusBadRequest, status)

	require.NoError(t, program.Process.Signal(syscall.SIGTERM))
	require.NoError(t, program.Wait(), "%s", output)
}

// The further Go of docs/applications.md compiles.
func TestExamplesOfApplicationsCompile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/applications.md")
	require.NoError(t, err)
	blocks := strings.Split(string(text), "```go\n")[2:]
	require.NotEmpty(t, blocks)
	source := "package main\n\nimport (\n\t\"net/http\"\n\n\t\"github.com/headgate/headgate/orchestrator/catalog\"\n\t\"github.com/headgate/headgate/orchestrator/catalog/tenanthttp\"\n)\n\n" +
		"var _ = middleware\n\nfunc login(*http.Request) (string, error) { return \"\", nil }\n\nfunc claims(*http.Request) (c struct{ Tenant string }) { return c }\n\nfunc main() {}\n\n"
	for _, block := range blocks {
		example, _, found := strings.Cut(block, "```\n")
		require.True(t, found)
		source += example + "\n"
	}
	main := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(main, []byte(source), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, main).CombinedOutput()
	require.NoError(t, err, "%s\n%s", output, source)
}

var (
	tokenText = regexp.MustCompile(`\b[A-Z2-7]{26}\b`)
	timeText  = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`)
)

// The page's commands on domains print what the page shows, but for the token and the time.
func TestDomainsOfTheCommandLine(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	dns := dnstest.New(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	env.Tenant("thief", "db")
	transcript := ""
	shown := func(args ...string) result {
		t.Helper()
		r := c.run(args...)
		transcript += "$ headgate " + strings.Join(args, " ") + "\n" + r.err + r.out
		return r
	}
	claim := shown("tenant", "domain", "add", "acme", "shop.example")
	require.Equal(t, cli.ExitOK, claim.code, claim.err)
	token := tokenText.FindString(claim.err)
	require.NotEmpty(t, token)
	atDNS := func(args ...string) []string { return append(args, "--dns-server", dns.Addr()) }
	c.fails(cli.ExitFailed, atDNS("tenant", "domain", "verify", "acme", "shop.example"), "the DNS has no TXT record _headgate.shop.example", token)
	c.ok("tenant", "domain", "add", "thief", "shop.example")
	c.fails(cli.ExitFailed, atDNS("tenant", "domain", "verify", "thief", "shop.example"))
	dns.Set("_headgate.shop.example", token)
	c.fails(cli.ExitFailed, atDNS("tenant", "domain", "verify", "thief", "shop.example"), "holds something else than the token")
	// The page leaves the test's own name server out.
	verified := c.run(atDNS("tenant", "domain", "verify", "acme", "shop.example")...)
	require.Equal(t, cli.ExitOK, verified.code, verified.err)
	transcript += "$ headgate tenant domain verify acme shop.example\n" + verified.err + verified.out
	require.Equal(t, cli.ExitOK, shown("tenant", "domain", "list").code)
	transcript = timeText.ReplaceAllString(tokenText.ReplaceAllString(transcript, "K5V2QWXN3M4TBD6HJ7RALCYE2F"), "2026-11-30 10:55:31 UTC")
	page, err := os.ReadFile("../../docs/applications.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "```text\n"+transcript+"```\n", "the page shows:\n%s", transcript)

	c.fails(cli.ExitConflict, []string{"tenant", "domain", "verify", "thief", "shop.example", "--without-proof", "--reason", "a phone call"},
		"is taken already, by another tenant: tenant acme has it, and `headgate tenant domain remove acme shop.example` takes it away")
	c.fails(cli.ExitConflict, []string{"tenant", "domain", "add", "thief", "shop.example", "--subdomain"}, "tenant acme has it")
	c.fails(cli.ExitUsage, []string{"tenant", "domain", "verify", "acme", "x.example", "--without-proof"}, "--reason is missing")
	c.fails(cli.ExitUsage, []string{"tenant", "domain", "verify", "acme", "x.example", "--timeout", "0s"}, "--timeout")
	c.fails(cli.ExitNotFound, []string{"tenant", "domain", "verify", "acme", "x.example"}, "tenant acme neither has nor claims \"x.example\"")
	c.fails(cli.ExitNotFound, []string{"tenant", "domain", "add", "acne", "x.example"}, "did you mean acme?")
	c.fails(cli.ExitNotFound, []string{"tenant", "domain", "list", "acne"}, "did you mean acme?")
	c.fails(cli.ExitUsage, []string{"tenant", "domain", "list", "acme", "acme"}, "takes SLUG and no more")
	c.ok("tenant", "domain", "add", "acme", "x.example")
	dns.Silence()
	c.fails(cli.ExitUnreachable, append(atDNS("tenant", "domain", "verify", "acme", "x.example"), "--timeout", "50ms"), "asking the DNS for the TXT record _headgate.x.example")
	c.ok("tenant", "domain", "verify", "acme", "x.example", "--without-proof", "--reason", "contract 4711")
	var listed []catalog.Domain
	require.NoError(t, json.Unmarshal([]byte(c.ok("tenant", "domain", "list", "--domain", "x.example", "-o", "json")), &listed))
	require.Equal(t, []string{"operator", "contract 4711", "tester"}, []string{listed[0].Proof, listed[0].Reason, listed[0].VerifiedBy})

	// The claim of who was too late is still there, and goes.
	require.Contains(t, c.run("tenant", "domain", "remove", "thief", "shop.example").err, "removed: shop.example no longer means tenant thief")
	c.fails(cli.ExitNotFound, []string{"tenant", "domain", "remove", "thief", "shop.example"})
	_, err = env.Catalog.ResolveHost(t.Context(), "shop.example")
	require.NoError(t, err)
	c.ok("tenant", "domain", "remove", "acme", "shop.example")
	require.Contains(t, c.run("tenant", "domain", "list", "thief").err, "no domains: `headgate tenant domain add SLUG DOMAIN`")

	// What an operator enters with the tenant counts at once.
	c.ok("tenant", "add", "bolt", "--database", "db", "--domain", "bolt.example", "--subdomain", "bolt.example.com", "--email-domain", "bolt.example")
	for _, host := range []string{"bolt.example", "bolt.example.com"} {
		got, err := env.Catalog.ResolveHost(t.Context(), host)
		require.NoError(t, err)
		require.Equal(t, "bolt", got.Slug)
	}
}

func TestEmailDomainsOfTheCommandLine(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	require.Contains(t, c.run("tenant", "email", "list").err, "no e-mail domains: `headgate tenant email add SLUG DOMAIN`")
	c.ok("tenant", "email", "add", "acme", "ACME.example")
	require.Regexp(t, `(?s)DOMAIN +TENANT +CREATED AT\nacme.example +acme +20`, c.ok("tenant", "email", "list"))
	c.fails(cli.ExitConflict, []string{"tenant", "email", "add", "acme", "acme.example"}, "is taken already")
	c.fails(cli.ExitUsage, []string{"tenant", "email", "add", "acme", "googlemail.com"}, "anybody can have an address there")
	c.fails(cli.ExitNotFound, []string{"tenant", "email", "add", "acne", "x.example"}, "did you mean acme?")
	c.fails(cli.ExitNotFound, []string{"tenant", "email", "remove", "acme", "x.example"}, "`headgate tenant email list acme` shows those")
	c.ok("tenant", "email", "remove", "acme", "acme.example")
	require.Equal(t, "[]\n", c.ok("tenant", "email", "list", "acme", "-o", "json"))
}
