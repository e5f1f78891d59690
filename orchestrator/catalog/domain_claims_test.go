package catalog_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest/dnstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

func TestAClaimResolvesOnceTheDNSHasItsToken(t *testing.T) {
	t.Parallel()
	b, dns := setup(t), dnstest.New(t)
	ctx, domains := t.Context(), b.Domains()
	byDNS := catalog.Verification{DNS: dns.Resolver(), Actor: "ines"}
	b.addServer(t)
	acme := b.addTenant(t, "acme")

	claim, err := domains.Claim(ctx, "acme", "WWW.Bücher.example.")
	require.NoError(t, err)
	require.Len(t, claim.Token, 26)
	require.Equal(t, catalog.Domain{
		Domain: "www.xn--bcher-kva.example", Tenant: "acme", TenantID: acme.ID, Kind: catalog.DomainCustom,
		Record: "_headgate.www.xn--bcher-kva.example", Token: claim.Token, CreatedAt: claim.CreatedAt,
	}, claim)
	again, err := domains.Claim(ctx, acme.ID, "www.bücher.example")
	require.NoError(t, err)
	require.Equal(t, claim, again, "a repeated claim keeps its token")
	unknown := func() {
		t.Helper()
		_, err := b.ResolveHost(ctx, "www.bücher.example")
		require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	}

	unknown()
	_, err = domains.Verify(ctx, "acme", claim.Domain, byDNS)
	require.ErrorIs(t, err, catalog.ErrNotVerified)
	require.EqualError(t, err, "the domain is not verified: the DNS has no TXT record "+claim.Record+"; set the TXT record "+claim.Record+" to "+claim.Token+
		", wait until the DNS has it, and run `headgate tenant domain verify acme "+claim.Domain+"` again")
	dns.Set(claim.Record, "v=spf1 -all", strings.ToLower(claim.Token))
	_, err = domains.Verify(ctx, "acme", claim.Domain, byDNS)
	require.ErrorIs(t, err, catalog.ErrNotVerified)
	require.ErrorContains(t, err, "holds something else than the token (2 values)")
	dns.Set(claim.Domain, claim.Token)
	_, err = domains.Verify(ctx, "acme", claim.Domain, byDNS)
	require.ErrorIs(t, err, catalog.ErrNotVerified, "the record of the domain itself does not count")
	unknown()

	dns.Set(claim.Record, "v=spf1 -all", claim.Token)
	verified, err := domains.Verify(ctx, "acme", claim.Domain, byDNS)
	require.NoError(t, err)
	require.NotNil(t, verified.VerifiedAt)
	require.Equal(t, catalog.ProofDNS, verified.Proof)
	require.Equal(t, "ines", verified.VerifiedBy)
	require.Empty(t, verified.Token)
	got, err := b.ResolveHost(ctx, "www.bücher.example")
	require.NoError(t, err, "at once, although it was unknown a moment ago")
	require.Equal(t, acme, got)

	asked := dns.Asked(claim.Record)
	again, err = domains.Verify(ctx, "acme", claim.Domain, byDNS)
	require.NoError(t, err)
	require.Equal(t, verified, again)
	require.Equal(t, asked, dns.Asked(claim.Record), "what resolves is not asked about again")
	_, err = domains.Claim(ctx, "acme", claim.Domain)
	require.ErrorIs(t, err, catalog.ErrExists)

	require.NoError(t, domains.Remove(ctx, "acme", claim.Domain))
	unknown()
	require.ErrorIs(t, domains.Remove(ctx, "acme", claim.Domain), catalog.ErrUnknownDomain)
}

// Who claims somebody else's domain keeps nobody from it: not the owner, whoever vouches
// for the owner, nor another claimant.
func TestAClaimDoesNotBlockTheOwner(t *testing.T) {
	t.Parallel()
	b, dns := setup(t), dnstest.New(t)
	ctx, domains := t.Context(), b.Domains()
	v := catalog.Verification{DNS: dns.Resolver()}
	b.addServer(t)
	b.addTenant(t, "owner")
	b.addTenant(t, "thief")
	for _, domain := range []string{"one.example", "two.example"} {
		_, err := domains.Claim(ctx, "thief", domain)
		require.NoError(t, err)
	}
	claim, err := domains.Claim(ctx, "owner", "one.example")
	require.NoError(t, err)
	dns.Set(claim.Record, claim.Token)
	_, err = domains.Verify(ctx, "thief", "one.example", v)
	require.ErrorIs(t, err, catalog.ErrNotVerified, "the owner's token is not the thief's")
	_, err = domains.Verify(ctx, "owner", "one.example", v)
	require.NoError(t, err)
	require.NoError(t, b.Domains().Add(ctx, "owner", "two.example", catalog.DomainCustom))

	for _, domain := range []string{"one.example", "two.example"} {
		got, err := b.ResolveHost(ctx, domain)
		require.NoError(t, err)
		require.Equal(t, "owner", got.Slug)
		_, err = domains.Verify(ctx, "thief", domain, catalog.Verification{WithoutProof: true, Reason: "a phone call"})
		require.ErrorIs(t, err, catalog.ErrExists)
		require.EqualError(t, err, fmt.Sprintf("verify domain: domain %q is taken already, by another tenant", domain))
	}
	_, err = domains.Claim(ctx, "thief", "one.example")
	require.ErrorIs(t, err, catalog.ErrExists)
	require.NoError(t, domains.Remove(ctx, "thief", "one.example"), "its claim is still there")
	require.ErrorIs(t, domains.Remove(ctx, "thief", "one.example"), catalog.ErrUnknownDomain, "the domain is not the thief's to remove")
}

func TestAnOperatorVerifiesForAReason(t *testing.T) {
	t.Parallel()
	b, dns := setup(t), dnstest.New(t)
	ctx, domains := t.Context(), b.Domains()
	dns.Silence()
	b.addServer(t)
	b.addTenant(t, "acme")
	_, err := domains.Claim(ctx, "acme", "acme.example")
	require.NoError(t, err)

	_, err = domains.Verify(ctx, "acme", "acme.example", catalog.Verification{DNS: dns.Resolver(), Timeout: time.Millisecond})
	var failed *net.DNSError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "asking the DNS for the TXT record _headgate.acme.example")
	for says, v := range map[string]catalog.Verification{
		"verify domain: reason is missing: give why the domain counts although the DNS was not asked": {WithoutProof: true, Reason: " "},
		`verify domain: reason "x": a reason goes with a verification without proof`:                  {Reason: "x"},
		"verify domain: timeout \"2m0s\": give up to 1m, or 0 for 5s":                                 {Timeout: 2 * time.Minute},
		"verify domain: actor: 201 characters is too long; at most 200 are allowed":                   {Actor: strings.Repeat("x", 201)},
		"verify domain: reason: 501 characters is too long; at most 500 are allowed":                  {WithoutProof: true, Reason: strings.Repeat("x", 501)},
	} {
		_, err = domains.Verify(ctx, "acme", "acme.example", v)
		require.EqualError(t, err, says)
	}
	_, err = domains.Verify(ctx, "acme", "other.example", catalog.Verification{DNS: dns.Resolver()})
	require.ErrorIs(t, err, catalog.ErrUnknownDomain)

	verified, err := domains.Verify(ctx, "acme", "acme.example", catalog.Verification{WithoutProof: true, Reason: "contract 4711", Actor: "ines"})
	require.NoError(t, err)
	require.Equal(t, []string{catalog.ProofOperator, "contract 4711", "ines"}, []string{verified.Proof, verified.Reason, verified.VerifiedBy})
	_, err = b.ResolveHost(ctx, "acme.example")
	require.NoError(t, err)
}

func TestClaimsRefuse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	_, err := domains.Claim(ctx, "acme", strings.Repeat("a.", 122)+"a")
	require.ErrorContains(t, err, "it is too long for a TXT record before it; at most 243 characters are allowed")
	_, err = domains.Claim(ctx, "acme", "10.0.0.1")
	require.ErrorContains(t, err, "it is an IP address")
	_, err = domains.Claim(ctx, "acne", "acme.example")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)

	_, err = b.pool.Exec(ctx, `INSERT INTO headgate.domain_claims (domain, tenant_id, token) SELECT n || '.example', $1, 'x' FROM generate_series(1, 99) n`, acme.ID)
	require.NoError(t, err)
	var wg sync.WaitGroup
	refused := make(chan error, 8)
	for i := range cap(refused) { // together they stay within the bound
		wg.Go(func() {
			_, err := domains.Claim(ctx, "acme", fmt.Sprintf("new%d.example", i))
			refused <- err
		})
	}
	wg.Wait()
	close(refused)
	accepted := 0
	for err := range refused {
		if err == nil {
			accepted++
			continue
		}
		require.ErrorContains(t, err, "tenant acme claims 100 domains already: verify or remove some of them first (`headgate tenant domain list acme`)")
	}
	require.Equal(t, 1, accepted)

	_, err = b.pool.Exec(ctx, `UPDATE headgate.tenants SET slug = id::text, status = 'removed' WHERE id = $1`, acme.ID)
	require.NoError(t, err)
	left, _, err := domains.List(ctx, catalog.DomainFilter{})
	require.NoError(t, err)
	require.Empty(t, left, "a removed tenant claims nothing")
	_, err = domains.Claim(ctx, acme.ID, "acme.example")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
}

// Of two who verify one domain at the same time one has it, and the other is told.
func TestTwoVerifyOneDomain(t *testing.T) {
	t.Parallel()
	b, dns := setup(t), dnstest.New(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	var tokens []string
	for _, slug := range []string{"one", "two"} {
		b.addTenant(t, slug)
		claim, err := domains.Claim(ctx, slug, "both.example")
		require.NoError(t, err)
		tokens = append(tokens, claim.Token)
	}
	dns.Set("_headgate.both.example", tokens...)
	v := catalog.Verification{DNS: dns.Resolver()}

	// The second waits for the first one's commit, and sees what was committed.
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // committed below
	_, err = domains.VerifyTx(ctx, tx, "one", "both.example", v)
	require.NoError(t, err)
	second := make(chan error, 1)
	go func() {
		_, err := domains.Verify(ctx, "two", "both.example", v)
		second <- err
	}()
	waits(t, b)
	require.NoError(t, tx.Commit(ctx))
	require.ErrorIs(t, <-second, catalog.ErrExists)
	owner, err := b.ResolveHost(ctx, "both.example")
	require.NoError(t, err)
	require.Equal(t, "one", owner.Slug)
}

// A claim that is taken back while it is being verified does not leave the domain behind.
func TestRemovingWhileVerifying(t *testing.T) {
	t.Parallel()
	b, dns := setup(t), dnstest.New(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	b.addTenant(t, "acme")
	claim, err := domains.Claim(ctx, "acme", "acme.example")
	require.NoError(t, err)
	dns.Set(claim.Record, claim.Token)
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // committed below
	_, err = domains.VerifyTx(ctx, tx, "acme", "acme.example", catalog.Verification{DNS: dns.Resolver()})
	require.NoError(t, err)
	removed := make(chan error, 1)
	go func() { removed <- domains.Remove(ctx, "acme", "acme.example") }()
	waits(t, b)
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-removed)
	left, _, err := domains.List(ctx, catalog.DomainFilter{})
	require.NoError(t, err)
	require.Empty(t, left)
}

// A domain that was given to a tenant while the tenant was removed stayed with the removed
// tenant: the removal had not seen it.
func TestADomainOfATenantThatIsRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	for slug, add := range map[string]func(slug string) error{
		"acme":  func(slug string) error { return b.Domains().Add(ctx, slug, "acme.example", catalog.DomainCustom) },
		"brick": func(slug string) error { return b.Domains().AddEmail(ctx, slug, "brick.example") },
	} {
		b.addTenant(t, slug)
		tx, err := b.pool.Begin(ctx)
		require.NoError(t, err)
		_, err = b.Editor().RemoveTx(ctx, tx, []string{slug}, nil)
		require.NoError(t, err)
		added := make(chan error, 1)
		go func() { added <- add(slug) }()
		waits(t, b)
		require.NoError(t, tx.Commit(ctx))
		require.ErrorIs(t, <-added, jobs.ErrUnknownTenant)
	}
	left, _, err := b.Domains().List(ctx, catalog.DomainFilter{})
	require.NoError(t, err)
	require.Empty(t, left)
}

// waits returns when a session of the test's database waits for a lock.
func waits(t *testing.T, b bundle) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		return err == nil && n > 0
	}, time.Minute, 5*time.Millisecond)
}

// Whatever tenants claim, verify, vouch and remove at random: a domain has one tenant at
// most, one whose token the DNS had or who was vouched for, and what resolves is what the
// list calls verified.
func TestDomainsAgreeWhateverHappens(t *testing.T) {
	t.Parallel()
	b, dns := setup(t), dnstest.New(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	tenants, names := []string{"one", "two", "three"}, []string{"a.example", "b.example"}
	for _, slug := range tenants {
		b.addTenant(t, slug)
	}
	v := catalog.Verification{DNS: dns.Resolver()}
	rapid.Check(t, func(rt *rapid.T) {
		former, _, err := domains.List(ctx, catalog.DomainFilter{})
		require.NoError(rt, err)
		for _, d := range former {
			require.NoError(rt, domains.Remove(ctx, d.TenantID, d.Domain))
		}
		for _, name := range names {
			dns.Set("_headgate." + name)
		}
		owner, claims := map[string]string{}, map[string]string{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			tenant, name := rapid.SampledFrom(tenants).Draw(rt, "tenant"), rapid.SampledFrom(names).Draw(rt, "domain")
			key := tenant + " " + name
			switch rapid.SampledFrom([]string{"claim", "publish", "verify", "vouch", "remove"}).Draw(rt, "step") {
			case "claim":
				claim, err := domains.Claim(ctx, tenant, name)
				require.Equal(rt, owner[name] == "", err == nil)
				if err == nil {
					claims[key] = claim.Token
				}
			case "publish":
				if claims[key] != "" {
					dns.Set("_headgate."+name, claims[key])
				}
			case "verify":
				values, _ := dns.Resolver().LookupTXT(ctx, "_headgate."+name+".")
				shown := claims[key] != "" && len(values) == 1 && values[0] == claims[key]
				_, err := domains.Verify(ctx, tenant, name, v)
				require.Equal(rt, owner[name] == tenant || shown && owner[name] == "", err == nil)
				if err == nil {
					owner[name] = tenant
					delete(claims, key)
				}
			case "vouch":
				err := b.Domains().Add(ctx, tenant, name, catalog.DomainCustom)
				require.Equal(rt, owner[name] == "", err == nil)
				if err == nil {
					owner[name] = tenant
					delete(claims, key)
				}
			case "remove":
				err := domains.Remove(ctx, tenant, name)
				require.Equal(rt, owner[name] == tenant || claims[key] != "", err == nil)
				delete(claims, key)
				if owner[name] == tenant {
					delete(owner, name)
				}
			}
		}
		listed, _, err := domains.List(ctx, catalog.DomainFilter{})
		require.NoError(rt, err)
		require.Len(rt, listed, len(owner)+len(claims))
		for _, d := range listed {
			if d.VerifiedAt != nil {
				require.Equal(rt, owner[d.Domain], d.Tenant)
			} else {
				require.Equal(rt, claims[d.Tenant+" "+d.Domain], d.Token)
			}
		}
		for _, name := range names {
			got, err := b.ResolveHost(ctx, name)
			require.Equal(rt, owner[name] != "", err == nil)
			require.Equal(rt, owner[name], got.Slug)
		}
	})
}

func TestDomainsByPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	for _, slug := range []string{"one", "two", "three"} {
		b.addTenant(t, slug)
		for i := range 3 {
			_, err := domains.Claim(ctx, slug, fmt.Sprintf("d%d.example", i))
			require.NoError(t, err)
		}
		require.NoError(t, b.Domains().Add(ctx, slug, slug+".example.com", catalog.DomainSubdomain))
	}
	for _, c := range []struct {
		filter catalog.DomainFilter
		want   int
	}{
		{catalog.DomainFilter{}, 12}, {catalog.DomainFilter{Tenant: "two"}, 4}, {catalog.DomainFilter{Domain: "D1.example."}, 3},
		{catalog.DomainFilter{Tenant: "two", Domain: "d1.example"}, 1}, {catalog.DomainFilter{Domain: "d9.example"}, 0},
	} {
		seen := map[string]bool{}
		for c.filter.Limit = 1; ; {
			page, next, err := domains.List(ctx, c.filter)
			require.NoError(t, err)
			for _, d := range page {
				require.False(t, seen[d.Tenant+d.Domain])
				seen[d.Tenant+d.Domain] = true
			}
			if c.filter.After = next; next == "" {
				break
			}
		}
		require.Len(t, seen, c.want, c.filter)
	}
	for _, filter := range []catalog.DomainFilter{{Page: jobs.Page{After: "x"}}, {Page: jobs.Page{Limit: -1}}, {Domain: "a b"}} {
		_, _, err := domains.List(ctx, filter)
		var input *jobs.InputError
		require.ErrorAs(t, err, &input)
	}
}

func TestEmailDomains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	b.addTenant(t, "other")
	require.EqualError(t, b.Domains().AddEmail(ctx, "acme", "GMAIL.com."),
		`add e-mail domain: domain "GMAIL.com.": anybody can have an address there: give a domain that only the tenant's people have addresses at`)
	require.NoError(t, b.Domains().AddEmail(ctx, "acme", "Acme.example"))
	require.NoError(t, b.Domains().AddEmail(ctx, "acme", "mail.acme.example"))
	require.ErrorIs(t, b.Domains().AddEmail(ctx, "other", "acme.example"), catalog.ErrExists)
	_, err := b.ResolveEmail(ctx, "ines@sub.acme.example")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant, "exactly")

	page, next, err := domains.Emails(ctx, "acme", jobs.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, "acme.example", next)
	require.Equal(t, []catalog.EmailDomain{{Domain: "acme.example", Tenant: "acme", TenantID: acme.ID, CreatedAt: page[0].CreatedAt}}, page)
	page, next, err = domains.Emails(ctx, "", jobs.Page{After: next})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, page, 1)

	require.ErrorIs(t, domains.RemoveEmail(ctx, "other", "acme.example"), catalog.ErrUnknownDomain)
	_, err = b.ResolveEmail(ctx, "ines@acme.example")
	require.NoError(t, err)
	require.NoError(t, domains.RemoveEmail(ctx, "acme", "ACME.example"))
	_, err = b.ResolveEmail(ctx, "ines@acme.example")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant, "at once")
}

// The …Tx forms are undone with their transaction.
func TestDomainsInATransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, domains := t.Context(), b.Domains()
	b.addServer(t)
	b.addTenant(t, "acme")
	require.NoError(t, b.Domains().AddEmail(ctx, "acme", "acme.example"))
	require.NoError(t, b.Domains().Add(ctx, "acme", "acme.example", catalog.DomainCustom))
	undone := fmt.Errorf("undone")
	require.ErrorIs(t, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := domains.ClaimTx(ctx, tx, "acme", "new.example")
		require.NoError(t, err)
		_, err = domains.VerifyTx(ctx, tx, "acme", "new.example", catalog.Verification{WithoutProof: true, Reason: "test"})
		require.NoError(t, err)
		_, err = domains.ClaimTx(ctx, tx, "acme", "acme.example")
		require.ErrorIs(t, err, catalog.ErrExists, "the transaction goes on")
		require.NoError(t, domains.RemoveTx(ctx, tx, "acme", "acme.example"))
		require.NoError(t, domains.RemoveEmailTx(ctx, tx, "acme", "acme.example"))
		return undone
	}), undone)
	_, err := b.ResolveHost(ctx, "acme.example")
	require.NoError(t, err)
	_, err = b.ResolveEmail(ctx, "x@acme.example")
	require.NoError(t, err)
	_, err = b.ResolveHost(ctx, "new.example")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
}
