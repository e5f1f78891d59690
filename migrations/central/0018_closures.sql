-- When schedules of a tenant, or of all tenants of a server, may start: not in a
-- blackout; and those for maintenance only in a maintenance window, if there is one.
CREATE TABLE headgate.closures (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    kind       text NOT NULL CHECK (kind IN ('blackout', 'maintenance')),
    tenant_id  uuid REFERENCES headgate.tenants ON DELETE CASCADE,
    server_id  uuid REFERENCES headgate.servers ON DELETE CASCADE,
    spans      text[] NOT NULL CHECK (cardinality(spans) BETWEEN 1 AND 50), -- as orchestrator/calendar/window.go reads them
    zone       text NOT NULL DEFAULT '',     -- '': the tenant's own
    from_at    timestamptz,                  -- only from then on
    until_at   timestamptz,                  -- only until then
    note       text NOT NULL DEFAULT '',
    CHECK ((tenant_id IS NULL) <> (server_id IS NULL))
);
