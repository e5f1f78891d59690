package catalog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func TestDomains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	b.addTenant(t, "other")
	require.NoError(t, b.Domains().Add(ctx, "acme", "ACME.Example.com.", catalog.DomainSubdomain))
	require.NoError(t, b.Domains().Add(ctx, acme.ID, "xn--bcher-kva.example", catalog.DomainCustom))

	for _, host := range []string{"acme.example.com", "acme.example.com:80", "Acme.Example.COM.", "xn--bcher-kva.example", "BÜCHER.example.:80"} {
		got, err := b.ResolveHost(ctx, host)
		require.NoError(t, err, host)
		require.Equal(t, acme, got)
	}
	for _, host := range []string{
		"example.com", "com", "x.acme.example.com", "evil-acme.example.com", "acme.example.com.evil.com", "acme.example.co",
		"acme.example.com:", "acme.example.com:x", "acme.example.com:123456", "acme.example.com..", "acme.example.com/", "user@acme.example.com",
		"[::1]:80", "127.0.0.1", ".", ":80", "\x00", "acme%", strings.Repeat("a.", 200),
	} {
		_, err := b.ResolveHost(ctx, host)
		require.ErrorIs(t, err, jobs.ErrUnknownTenant, host)
	}
	_, err := b.ResolveHost(ctx, "")
	require.ErrorIs(t, err, jobs.ErrNoTenant)

	err = b.Domains().Add(ctx, "other", "acme.example.com", catalog.DomainCustom)
	require.ErrorIs(t, err, catalog.ErrExists)
	require.EqualError(t, err, `add domain: domain "acme.example.com" is taken already`)
	require.ErrorIs(t, b.Domains().Add(ctx, "nope", "nope.example.com", catalog.DomainCustom), jobs.ErrUnknownTenant)
	require.EqualError(t, b.Domains().Add(ctx, "acme", "bücher.example", catalog.DomainCustom), `add domain: domain "xn--bcher-kva.example" is taken already`)
	require.EqualError(t, b.Domains().Add(ctx, "acme", "a_b.example", catalog.DomainCustom), `add domain: domain "a_b.example": it is not a domain name: give a name of two or more parts of letters, digits and hyphens, as in acme.example`)
	require.EqualError(t, b.Domains().Add(ctx, "acme", "10.0.0.1", catalog.DomainCustom), `add domain: domain "10.0.0.1": it is an IP address, not a domain name: give a name of two or more parts of letters, digits and hyphens, as in acme.example`)
	require.EqualError(t, b.Domains().Add(ctx, "acme", "", catalog.DomainCustom), `add domain: domain: it is empty: give a name of two or more parts of letters, digits and hyphens, as in acme.example`)
	require.EqualError(t, b.Domains().Add(ctx, "acme", "a.example", "x"), `add domain: kind "x": give subdomain or custom`)
}
