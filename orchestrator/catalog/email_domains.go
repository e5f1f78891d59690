package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// publicMail are domains where anybody can have an address. Of all who have one there, a
// tenant would get the requests. The list has the largest providers only, so it stops slips
// and is no protection.
var publicMail = []string{
	"126.com", "163.com", "aol.com", "fastmail.com", "free.fr", "gmail.com", "gmx.at", "gmx.ch", "gmx.com", "gmx.de", "gmx.net",
	"googlemail.com", "hey.com", "hotmail.co.uk", "hotmail.com", "hotmail.fr", "icloud.com", "laposte.net", "libero.it", "live.com",
	"mac.com", "mail.com", "mail.ru", "me.com", "msn.com", "naver.com", "orange.fr", "outlook.com", "outlook.fr", "pm.me", "proton.me",
	"protonmail.com", "qq.com", "t-online.de", "tutanota.com", "web.de", "yahoo.co.jp", "yahoo.co.uk", "yahoo.com", "yahoo.de",
	"yahoo.fr", "yandex.com", "yandex.ru", "zoho.com",
}

// AddEmail makes e-mail addresses at a domain mean a tenant, for
// ResolveEmail: at this very domain, and not below it. Its form and the errors are those
// of Add. The domains of the largest public mail providers are refused. Nothing
// checks that all who have an address at another domain are the tenant's people: whoever
// calls AddEmail vouches that they are.
func (d *Domains) AddEmail(ctx context.Context, tenant, domain string) error {
	defer d.catalog.memory.drop()
	return d.catalog.addEmailDomain(ctx, d.catalog.pool, tenant, domain)
}

// AddEmailTx is AddEmail in the caller's transaction.
func (d *Domains) AddEmailTx(ctx context.Context, tx pgx.Tx, tenant, domain string) error {
	return d.catalog.addEmailDomain(ctx, tx, tenant, domain)
}

const emailInsertSQL = `
INSERT INTO headgate.tenant_emails (domain, tenant_id)
VALUES ($1, $2)
ON CONFLICT (domain) DO NOTHING`

func (c *Catalog) addEmailDomain(ctx context.Context, db beginner, tenant, domain string) error {
	canonical, err := CheckDomain("domain", domain, DomainEmail)
	if err != nil {
		return fmt.Errorf("add e-mail domain: %w", err)
	}
	_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) {
		return none, insertDomain(ctx, tx, tenant, canonical, emailInsertSQL)
	})
	if err != nil {
		return fmt.Errorf("add e-mail domain: %w", err)
	}
	return nil
}

// EmailDomain is a domain of the e-mail addresses of a tenant's people.
type EmailDomain struct {
	Domain    string    `json:"domain"`
	Tenant    string    `json:"tenant"` // the slug
	TenantID  string    `json:"tenant_id"`
	CreatedAt time.Time `json:"created_at"`
}

const emailsSQL = `
SELECT e.domain, t.slug, t.id::text, e.created_at
FROM headgate.tenant_emails e
JOIN headgate.tenants t ON t.id = e.tenant_id
WHERE ($1::uuid IS NULL OR e.tenant_id = $1)
  AND e.domain > $2
ORDER BY e.domain
LIMIT $3`

// Emails returns the e-mail domains of a tenant, or of all for "", by domain, and the
// After of the next page ("" if nothing follows). A page has 200 unless it says
// otherwise, at most 10,000.
func (d *Domains) Emails(ctx context.Context, tenant string, page jobs.Page) (emails []EmailDomain, next string, err error) {
	limit, err := page.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list e-mail domains: %w", err)
	}
	id, err := d.tenantID(ctx, tenant)
	if err != nil {
		return nil, "", fmt.Errorf("list e-mail domains: %w", err)
	}
	rows, _ := d.catalog.pool.Query(ctx, emailsSQL, planned, id, page.After, limit+1) // its error is CollectRows' too
	if emails, err = pgx.CollectRows(rows, pgx.RowToStructByPos[EmailDomain]); err != nil {
		return nil, "", fmt.Errorf("list e-mail domains: %w", err)
	}
	emails, next = jobs.CutPage(emails, limit, func(e EmailDomain) string { return e.Domain })
	return emails, next, nil
}

// RemoveEmail makes e-mail addresses at a domain mean the tenant no more. Errors match
// jobs.ErrUnknownTenant or ErrUnknownDomain, or are a *jobs.InputError.
func (d *Domains) RemoveEmail(ctx context.Context, tenant, domain string) error {
	id, err := d.removeEmail(ctx, d.catalog.pool, tenant, domain)
	d.catalog.memory.changed(err, id)
	return err
}

// RemoveEmailTx is RemoveEmail in the caller's transaction.
func (d *Domains) RemoveEmailTx(ctx context.Context, tx pgx.Tx, tenant, domain string) error {
	_, err := d.removeEmail(ctx, tx, tenant, domain)
	return err
}

const emailDeleteSQL = `
DELETE FROM headgate.tenant_emails
WHERE domain = $1 AND tenant_id = $2`

func (d *Domains) removeEmail(ctx context.Context, db beginner, tenant, domain string) (id string, err error) {
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return "", fmt.Errorf("remove e-mail domain: %w", jobs.Inputf("domain", domain, "it %v", err))
	}
	id, err = within(ctx, db, func(tx pgx.Tx) (string, error) {
		found, err := tenantByName(ctx, tx, tenant)
		if err != nil {
			return "", err
		}
		tag, err := tx.Exec(ctx, emailDeleteSQL, canonical, found.ID)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("%w: %q is no e-mail domain of tenant %s; `headgate tenant email list %s` shows those", ErrUnknownDomain, canonical, found.Slug, found.Slug)
		}
		return found.ID, err
	})
	if err != nil {
		return "", fmt.Errorf("remove e-mail domain: %w", err)
	}
	return id, nil
}
