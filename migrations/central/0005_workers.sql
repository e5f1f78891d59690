-- Worker incarnations: one row for each life of a worker process. beats rises
-- with every heartbeat; others judge by whether it does, never by a clock.

CREATE TABLE headgate.workers (
    incarnation uuid PRIMARY KEY,
    worker      text NOT NULL,               -- the name in outcomes
    host        text NOT NULL,
    pid         int NOT NULL,
    kinds       text[] NOT NULL,
    queues      text[] NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    beat_at     timestamptz NOT NULL DEFAULT now(),
    beats       bigint NOT NULL DEFAULT 0,
    draining    boolean NOT NULL DEFAULT false,
    reaped_at   timestamptz,                 -- declared dead; it may still wake and must find this out
    ended_at    timestamptz,                 -- stopped in order
    in_hand     bigint[] NOT NULL DEFAULT '{}', -- what it was running when it died
    sole_suspect bigint                      -- of those, the only one that had been in hand at an earlier death
) WITH (fillfactor = 50);                    -- heartbeats stay on their page

CREATE INDEX workers_alive ON headgate.workers (incarnation) WHERE reaped_at IS NULL AND ended_at IS NULL;

-- Jobs that were running when a worker died. One of them may be why; each is
-- then claimed alone, and only a death with it as the sole suspect counts.
CREATE TABLE headgate.suspects (
    job_id      bigint PRIMARY KEY,
    job_uid     text NOT NULL,
    kind        text NOT NULL,
    deaths      int NOT NULL DEFAULT 1,      -- of workers while it ran
    alone       int NOT NULL DEFAULT 0,      -- of those, the ones it was the sole suspect of
    since       timestamptz NOT NULL DEFAULT now(),
    quarantined_at timestamptz
);

-- Finds what a dead incarnation had in hand. Only running rows are in it.
CREATE INDEX river_job_headgate_running
    ON river_job ((split_part(attempted_by[array_upper(attempted_by, 1)], ':', 1))) WHERE state = 'running';
