-- The history: one row for each ended attempt, written in the transaction that
-- moves the job's row in the queue.

CREATE TABLE headgate.outcomes (
    id          uuid PRIMARY KEY,            -- the attempt's own, minted by the worker: a repeated write changes nothing
    job_uid     uuid NOT NULL,
    job_id      bigint NOT NULL,
    tenant_id   uuid,                        -- NULL: a job of scope database
    database_id uuid,
    kind        text NOT NULL,
    attempt     int NOT NULL,
    state       text NOT NULL,
    class       text NOT NULL DEFAULT '',
    sqlstate    text NOT NULL DEFAULT '',
    message     text NOT NULL DEFAULT '',
    trace       text NOT NULL DEFAULT '',    -- the stack of a panic
    recovered   boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    rows        bigint NOT NULL DEFAULT 0,
    output      text NOT NULL DEFAULT '',
    schedule    text NOT NULL DEFAULT '',
    worker      text NOT NULL DEFAULT ''
);

CREATE INDEX outcomes_job ON headgate.outcomes (job_uid, ended_at);
CREATE INDEX outcomes_tenant ON headgate.outcomes (tenant_id, ended_at DESC);
