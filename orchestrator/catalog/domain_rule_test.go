package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// What is no domain of a tenant's is refused by all ways in which a tenant gets one, with the
// same sentence, and nothing is written.
func TestOneRuleOfDomains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	b.addTenant(t, "acme")
	const form = ": give a name of two or more parts of letters, digits and hyphens, as in acme.example"
	for domain, says := range map[string]string{
		"":                       "is empty",
		".":                      "is empty",
		"localhost":              "has one part only",
		"COM.":                   "has one part only",
		"10.0.0.1":               "is an IP address, not a domain name",
		"１２７.0.0.1":              "is an IP address, not a domain name",
		"127.1":                  "ends with a number, as IP addresses do",
		"1.2.3.4.5":              "ends with a number, as IP addresses do",
		"127.0x1":                "ends with a number, as IP addresses do",
		"::1":                    "is not a domain name",
		"[::1]":                  "is an IP address, not a domain name",
		"x.com:80":               "has a port",
		"x.com:":                 "is not a domain name",
		"co.uk":                  "is a public suffix, below which anybody can have a domain",
		"CO.UK.":                 "is a public suffix, below which anybody can have a domain",
		"個人.香港":                  "is a public suffix, below which anybody can have a domain",
		"https://x.com":          "is a URL",
		"x.com/a":                "is a URL",
		"ada@x.com":              "is an e-mail address or has a user",
		"*.x.com":                "is a pattern, and a domain means one tenant by itself only",
		"a_b.com":                "is not a domain name",
		"-a.com":                 "is not a domain name",
		"a..com":                 "is not a domain name",
		"x.com..":                "is not a domain name",
		"a b.com":                "is not a domain name",
		"xn--a.com":              "has a part in punycode that stands for no letters",
		"a\u200d.com":            "is not a domain name: its letters beyond ASCII cannot stand in one",
		"a\xff.com":              "is not a domain name: it is not valid UTF-8",
		"xn--bcher-kva8445f.com": "",
	} {
		_, err := catalog.CheckDomain("domain", domain, catalog.DomainCustom)
		if says == "" {
			require.NoError(t, err, domain)
			continue
		}
		var input *jobs.InputError
		require.ErrorAs(t, err, &input, domain)
		require.Equal(t, "it "+says+form, input.Allowed, domain)
		for _, got := range []error{
			domains.Add(ctx, "acme", domain, catalog.DomainCustom),
			domains.Add(ctx, "acme", domain, catalog.DomainSubdomain),
			domains.AddEmail(ctx, "acme", domain),
			func() error { _, err := domains.Claim(ctx, "acme", domain); return err }(),
		} {
			require.ErrorAs(t, got, &input, domain)
			require.Equal(t, "it "+says+form, input.Allowed, domain)
		}
	}
	_, err := catalog.CheckDomain("domain", "GMail.com", catalog.DomainEmail)
	require.ErrorContains(t, err, "anybody can have an address there")
	var rows int
	require.NoError(t, b.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM headgate.tenant_domains) + (SELECT count(*) FROM headgate.tenant_emails) + (SELECT count(*) FROM headgate.domain_claims)`).Scan(&rows))
	require.Zero(t, rows)

	for domain, want := range map[string]string{
		"ACME.Example.":         "acme.example",
		"bücher.example":        "xn--bcher-kva.example",
		"BÜCHER.example":        "xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example",
		"acme.localhost":        "acme.localhost",
		"acme.co.uk":            "acme.co.uk",
		"acme.github.io":        "acme.github.io",
		"shop.internal":         "shop.internal",
		"a。example":             "a.example",
	} {
		got, err := catalog.CheckDomain("domain", domain, catalog.DomainCustom)
		require.NoError(t, err, domain)
		require.Equal(t, want, got)
	}
	require.NoError(t, domains.Add(ctx, "acme", "BÜCHER.example.", catalog.DomainCustom))
	require.NoError(t, domains.AddEmail(ctx, "acme", "BÜCHER.example."))
	for _, host := range []string{"bücher.example:443", "XN--bcher-kva.example.", "bücher.example"} {
		_, err := b.ResolveHost(ctx, host)
		require.NoError(t, err, host)
	}
	_, err = b.ResolveEmail(ctx, "ada@BÜCHER.example")
	require.NoError(t, err)
}

// The rule takes no domain that a host cannot mean: what it returns, it takes again.
func FuzzCheckDomain(f *testing.F) {
	for _, domain := range []string{"acme.example", "faß.de", "xn--fa-hia.de", "xn--bcher-kva.example.", "a。b.c", "x.com:80", "co.uk", "r3---sn.x.com"} {
		f.Add(domain)
	}
	f.Fuzz(func(t *testing.T, domain string) {
		stored, err := catalog.CheckDomain("domain", domain, catalog.DomainCustom)
		if err != nil {
			return
		}
		again, err := catalog.CheckDomain("domain", stored, catalog.DomainCustom)
		require.NoError(t, err)
		require.Equal(t, stored, again)
		host, err := catalog.CanonicalDomain(domain)
		require.NoError(t, err)
		require.Equal(t, stored, host)
	})
}
