-- Which sync a tenant comes from. A sync suspends the tenants that are missing in its
-- source, and no others: '' is the source of what people have added.
ALTER TABLE headgate.tenants
    ADD COLUMN source text NOT NULL DEFAULT '' CHECK (source = '' OR source ~ '^[a-z][a-z0-9-]{0,62}$');
