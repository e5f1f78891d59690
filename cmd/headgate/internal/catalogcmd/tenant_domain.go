package catalogcmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// tenantDomain is the verbs on the domains of tenants.
func tenantDomain(app *cli.App) *cobra.Command {
	return cli.Group("domain", "Domains that mean a tenant, and claims to such",
		tenantDomainAdd(app), tenantDomainList(app), tenantDomainVerify(app), tenantDomainRemove(app))
}

var domainColumns = []cli.Column[catalog.Domain]{
	{Name: "domain", Of: func(d catalog.Domain) any { return d.Domain }},
	{Name: "tenant", Of: func(d catalog.Domain) any { return d.Tenant }},
	{Name: "kind", Of: func(d catalog.Domain) any { return d.Kind }},
	{Name: "proof", Of: func(d catalog.Domain) any { return d.Proof }},
	{Name: "verified_at", Of: func(d catalog.Domain) any { return d.VerifiedAt }},
}

const tenantDomainAddLong = `Note that a tenant claims a domain as its own. The domain resolves once it is
verified: add the TXT record that the command prints to the domain's DNS, then run
"headgate tenant domain verify". A claim keeps nobody else from the domain.

A domain below one of yours needs no proof: with --subdomain it resolves at once.`

func tenantDomainAdd(app *cli.App) *cobra.Command {
	var sub bool
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "add SLUG DOMAIN", Short: "Claim a domain for a tenant", Long: tenantDomainAddLong, Args: cli.Args("SLUG", "DOMAIN"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				tenant, name := args[0], args[1]
				var entered catalog.Domain
				err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					if sub {
						entered, err = addSubdomain(ctx, tx, central, tenant, name)
						return err
					}
					entered, err = central.Catalog.Domains().ClaimTx(ctx, tx, tenant, name)
					return err
				})
				if err != nil {
					return nearDomain(ctx, central, tenant, name, err)
				}
				defer dry.Say(app, "")
				if sub {
					return cli.One(app, entered, domainColumns)
				}
				if dry.On() {
					entered.Token = "…" // a token that is undone proves nothing
				}
				app.Say("set the TXT record %s to %s", entered.Record, entered.Token)
				dry.Next(app, "`headgate tenant domain verify %s %s`", entered.Tenant, entered.Domain)
				return cli.One(app, entered, domainColumns)
			})
		}),
	}
	cmd.Flags().BoolVar(&sub, "subdomain", false, "the domain is below one of yours, and means the tenant at once")
	dry.Flag(cmd)
	return cmd
}

// oneTenantAtMost are the Args of a list of one tenant's or of all.
func oneTenantAtMost(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return cli.Args("SLUG")(cmd, args)
}

// addSubdomain enters a domain that means the tenant at once, and returns what was entered.
func addSubdomain(ctx context.Context, tx pgx.Tx, central cli.Central, tenant, name string) (catalog.Domain, error) {
	if err := central.Catalog.Domains().AddTx(ctx, tx, tenant, name, catalog.DomainSubdomain); err != nil {
		return catalog.Domain{}, err
	}
	return central.Catalog.Domains().GetTx(ctx, tx, tenant, name)
}

// nearDomain adds to an error the tenant that was probably meant, or the one that has the
// domain.
func nearDomain(ctx context.Context, central cli.Central, tenant, name string, err error) error {
	if !errors.Is(err, catalog.ErrExists) {
		return cli.NearOwner(ctx, central, tenant, "", err)
	}
	domains, _, listErr := central.Catalog.Domains().List(ctx, catalog.DomainFilter{Domain: name})
	if listErr != nil {
		return err // the better of the two
	}
	for _, d := range domains {
		if d.VerifiedAt != nil {
			return fmt.Errorf("%w: tenant %s has it, and `headgate tenant domain remove %s %s` takes it away", err, d.Tenant, d.Tenant, d.Domain)
		}
	}
	return err
}

func tenantDomainList(app *cli.App) *cobra.Command {
	var filter catalog.DomainFilter
	cmd := &cobra.Command{
		Use: "list [SLUG]", Short: "List domains and claims, of one tenant or of all", Args: oneTenantAtMost,
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			if len(args) == 1 {
				filter.Tenant = args[0]
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				domains, next, err := central.Catalog.Domains().List(ctx, filter)
				if err != nil {
					return cli.NearOwner(ctx, central, filter.Tenant, "", err)
				}
				defer cli.More(app, next)
				for _, d := range domains {
					if d.VerifiedAt == nil && app.Once("claims") {
						app.Say("what has no proof resolves nothing: `headgate tenant domain verify SLUG DOMAIN` says which TXT record is missing")
					}
				}
				return cli.List(app, domains, "no domains: `headgate tenant domain add SLUG DOMAIN`", domainColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Domain, "domain", "", "only this domain, exactly")
	cli.IntIn(flags, &filter.Limit, "limit", 0, 1, 10_000, "at most so many, 1 to 10000 (default 200)")
	flags.StringVar(&filter.After, "after", "", "go on behind this one, as the list before said")
	return cmd
}

const tenantDomainVerifyLong = `Make a domain that a tenant claims resolve. The command asks the DNS for the TXT
record _headgate.DOMAIN, which has to hold the claim's token. Of several tenants that
claim a domain the first that is verified has it.

Answers of the DNS may be old. With --dns-server the command asks one name server,
for example that of the domain itself.`

func tenantDomainVerify(app *cli.App) *cobra.Command {
	var v catalog.Verification
	var server string
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "verify SLUG DOMAIN [--without-proof --reason TEXT]", Short: "Make a claimed domain resolve, once the DNS has its token", Long: tenantDomainVerifyLong, Args: cli.Args("SLUG", "DOMAIN"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if err := cli.NotZero(cmd, "dns-server"); err != nil {
			return err
		}
		if v.WithoutProof && v.Reason == "" {
			return cli.Usagef("--reason is missing: say why the domain counts although the DNS is not asked")
		}
		if server != "" {
			if _, _, err := net.SplitHostPort(server); err != nil {
				server = net.JoinHostPort(server, "53")
			}
			v.DNS = resolverAt(server)
		}
		v.Actor, v.DryRun = app.Actor(), dry.On()
		return app.Open(ctx, nil, func(central cli.Central) error {
			domain, err := central.Catalog.Domains().Verify(ctx, args[0], args[1], v)
			if err != nil {
				return nearDomain(ctx, central, args[0], args[1], err)
			}
			defer dry.Say(app, "")
			return cli.One(app, domain, domainColumns)
		})
	})
	flags := cmd.Flags()
	dry.Flag(cmd)
	flags.BoolVar(&v.WithoutProof, "without-proof", false, "do not ask the DNS; needs --reason")
	flags.StringVar(&v.Reason, "reason", "", "why the domain counts without proof, for the record")
	cli.DurationIn(flags, &v.Timeout, "timeout", 5*time.Second, time.Millisecond, time.Minute, "how long the DNS has to answer, 1ms to 1m")
	flags.StringVar(&server, "dns-server", "", "the name server to ask, as HOST or HOST:PORT (default: the system's)")
	return cmd
}

// resolverAt asks one name server.
func resolverAt(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
}

func tenantDomainRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "remove SLUG DOMAIN", Short: "Make a domain mean the tenant no more, or take its claim back", Args: cli.Args("SLUG", "DOMAIN"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Domains().RemoveTx(ctx, tx, args[0], args[1]) })
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				app.Say("removed: %s no longer means tenant %s", args[1], args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}
