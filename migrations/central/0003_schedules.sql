-- Schedules: per tenant, durable. next_run_at says when the row is due; NULL
-- says that it is not (paused, or in error), so that a tick is one index probe
-- whatever the number of rows.

CREATE TABLE headgate.schedules (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES headgate.tenants ON DELETE CASCADE,
    name         text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    kind         text NOT NULL,
    args         jsonb NOT NULL DEFAULT '{}',
    queue        text NOT NULL DEFAULT 'default',
    priority     smallint NOT NULL DEFAULT 1 CHECK (priority BETWEEN 1 AND 4),
    max_attempts smallint NOT NULL DEFAULT 25 CHECK (max_attempts > 0),
    cron         text NOT NULL,
    zone         text NOT NULL,
    next_run_at  timestamptz,
    last_run_at  timestamptz,
    paused       boolean NOT NULL DEFAULT false,
    paused_note  text NOT NULL DEFAULT '',
    error        text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX schedules_due ON headgate.schedules (next_run_at, id) WHERE next_run_at IS NOT NULL;
