package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/tlstest"
)

// Authorities come and go by commands; doctor says when one ends, and what it advises
// helps.
func TestCertificateAuthorities(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	ctx := context.Background()
	file := tlstest.NewAuthority(t, "ours").Write(t)
	require.Equal(t, "[]\n", c.ok("ca", "list", "-o", "json"))
	require.Contains(t, c.run("ca", "list").err, "`headgate ca add NAME FILE`")
	require.Contains(t, c.ok("ca", "add", "ours", file), "ours")
	c.fails(cli.ExitConflict, []string{"ca", "add", "ours", file}, `"ours" exists already; with --replace`)
	c.ok("ca", "add", "ours", file, "--replace")
	c.fails(cli.ExitNotFound, []string{"ca", "add", "our", file, "--replace"}, `unknown certificate authority "our", whose place the file is to take; `+"`headgate ca list`")
	finds(t, examined(t, c, cli.ExitOK), "authority ours", "certificate", doctor.StateOK)

	env.Database("db", jobstest.DatabaseOpts{})
	end := func(when string, named bool) doctor.Finding {
		_, err := env.Pool.Exec(ctx, `UPDATE headgate.databases SET job_ca = CASE WHEN $1 THEN 'ours' END`, named)
		require.NoError(t, err)
		_, err = env.Pool.Exec(ctx, `UPDATE headgate.certificate_authorities SET not_after = now() + $1::text::interval`, when)
		require.NoError(t, err)
		code := map[bool]int{true: cli.ExitFailed, false: cli.ExitOK}[named && when[0] == '-']
		state := map[bool]string{true: doctor.StateFail, false: doctor.StateWarn}[code == cli.ExitFailed]
		return finds(t, examined(t, c, code), "authority ours", "certificate", state)
	}
	require.Contains(t, end("29 days", true).Next, "`headgate ca add ours FILE --replace`")
	require.Contains(t, end("-1 day", true).Next, "`headgate ca add ours FILE --replace`")
	require.Contains(t, c.run("ca", "list").err, "warning: a certificate of ours has expired")
	c.fails(cli.ExitConflict, []string{"ca", "remove", "ours"}, `"ours" is named by the addresses of "db"`)
	c.ok("ca", "add", "ours", file, "--replace")
	finds(t, examined(t, c, cli.ExitOK), "authority ours", "certificate", doctor.StateOK)
	require.Contains(t, end("-1 day", false).Next, "`headgate ca remove ours`")
	c.ok("ca", "remove", "ours")
	c.fails(cli.ExitNotFound, []string{"ca", "remove", "ours"}, "`headgate ca list` shows them")

	for says, args := range map[string][]string{
		"FILE is missing":                  {"ca", "add", "ours"},
		"cannot be read":                   {"ca", "add", "ours", file + ".not"},
		"holds no certificate in PEM form": {"ca", "add", "ours", "/dev/null"},
		"without a - at either end":        {"ca", "add", "our ca", file},
		"NAME is missing":                  {"ca", "remove"},
		"unknown flag --root-certs":        {"serve", "--root-certs", "x"},
	} {
		c.fails(cli.ExitUsage, args, says)
	}
}
