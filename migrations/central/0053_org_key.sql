-- The tenant's key in tables whose organisation column is text or uuid. NULL means its
-- org_id. No two tenants of a database have the same, however it is written: a key that is a
-- UUID stands in its one form, and none begins or ends with a blank.
ALTER TABLE headgate.tenants ADD COLUMN org_key text
    CHECK (org_key <> '' AND length(org_key) <= 200 AND org_key = btrim(org_key) AND org_key !~ '[\x01-\x1f\x7f|]')
    CHECK (regexp_replace(org_key, '[{}-]', '', 'g') !~* '^[0-9a-f]{32}$' OR org_key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$');

DROP INDEX headgate.tenants_database; -- the next one begins as it did
CREATE UNIQUE INDEX tenants_org_key ON headgate.tenants (database_id, (coalesce(org_key, org_id::text)));
