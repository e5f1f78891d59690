-- Idempotency keys: the name under which a request for work is repeated without
-- harm. A row is written in the transaction that enqueues the job. The arguments
-- are not here, only what tells equal ones from others.

CREATE TABLE headgate.idempotency_keys (
    scope      uuid NOT NULL,              -- the tenant, or the database, that the job is for
    key        text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 200),
    kind       text NOT NULL,
    args_hash  bytea NOT NULL,             -- of scope, key, kind and arguments
    fields     jsonb NOT NULL,             -- name of each argument -> a short hash of its value
    job_uid    uuid NOT NULL,              -- the job that was accepted
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_keys_age ON headgate.idempotency_keys (created_at);
