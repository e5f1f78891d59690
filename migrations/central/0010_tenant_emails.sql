-- The domains of tenants' e-mail addresses: who signs in as ines@acme.example
-- belongs to the tenant that has acme.example.

CREATE TABLE headgate.tenant_emails (
    domain     text PRIMARY KEY CHECK (domain = lower(domain) AND domain <> ''),
    tenant_id  uuid NOT NULL REFERENCES headgate.tenants ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX tenant_emails_tenant ON headgate.tenant_emails (tenant_id);
