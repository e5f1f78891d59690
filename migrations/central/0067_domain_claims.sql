-- A row of tenant_domains resolves, and has been vouched for or shown. A claim resolves
-- nothing and keeps nobody from the domain: any number of tenants may claim a domain, and
-- the first that shows its claim gets the row.

UPDATE headgate.tenant_domains SET verified_at = created_at WHERE verified_at IS NULL;

ALTER TABLE headgate.tenant_domains
    DROP COLUMN token,
    ALTER COLUMN verified_at SET DEFAULT now(),
    ALTER COLUMN verified_at SET NOT NULL,
    -- given: whoever entered the domain vouched for it. dns: the DNS had the claim's token.
    -- operator: verified without the DNS, for a reason.
    ADD COLUMN proof       text NOT NULL DEFAULT 'given' CHECK (proof IN ('given', 'dns', 'operator')),
    ADD COLUMN verified_by text NOT NULL DEFAULT '' CHECK (length(verified_by) <= 200),
    ADD COLUMN reason      text NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    ADD CHECK (reason <> '' OR proof <> 'operator');

CREATE TABLE headgate.domain_claims (
    domain     text NOT NULL CHECK (domain = lower(domain) AND domain <> ''),
    tenant_id  uuid NOT NULL REFERENCES headgate.tenants,
    token      text NOT NULL CHECK (token <> ''), -- what the TXT record _headgate.DOMAIN has to hold
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (domain, tenant_id)
);

CREATE INDEX domain_claims_tenant ON headgate.domain_claims (tenant_id);

-- A tenant that is removed claims nothing.
CREATE FUNCTION headgate.drop_domain_claims() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM headgate.domain_claims WHERE tenant_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER drop_domain_claims AFTER UPDATE OF status ON headgate.tenants FOR EACH ROW
    WHEN (NEW.status = 'removed' AND OLD.status <> 'removed') EXECUTE FUNCTION headgate.drop_domain_claims();

SELECT headgate.audit_table('domain_claims', 'domain claim', 'domain,tenant_id', 'domain', 'tenant_id', 'created_at', 'token');
