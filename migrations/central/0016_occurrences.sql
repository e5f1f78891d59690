-- Schedules with an answer for every occurrence. answered_at is how far the
-- answers go: what lies behind it has a row in headgate.occurrences, alone or in a
-- run of neighbours with one reason.

-- A row's place in spreads, 0 to 1: multiples of the golden ratio leave no gaps
-- and no heaps, whichever stretch of them is looked at.
CREATE SEQUENCE headgate.schedule_places;
CREATE FUNCTION headgate.next_place() RETURNS double precision
LANGUAGE sql VOLATILE AS $$
    SELECT ((n.n * 0.6180339887498948482::numeric) % 1)::double precision FROM nextval('headgate.schedule_places') AS n(n)
$$;

ALTER TABLE headgate.schedules
    ALTER COLUMN tenant_id DROP NOT NULL,
    ADD COLUMN database_id     uuid REFERENCES headgate.databases ON DELETE CASCADE, -- for a kind of scope database
    ADD COLUMN gap             text NOT NULL DEFAULT '' CHECK (gap IN ('', 'next', 'skip')),
    ADD COLUMN repeat          text NOT NULL DEFAULT '' CHECK (repeat IN ('', 'first', 'last', 'both')),
    ADD COLUMN start_at        timestamptz,
    ADD COLUMN end_at          timestamptz,
    ADD COLUMN max_occurrences int NOT NULL DEFAULT 0,
    ADD COLUMN calendars       text[] NOT NULL DEFAULT '{}',
    ADD COLUMN windows         text[] NOT NULL DEFAULT '{}',
    ADD COLUMN spread          int NOT NULL DEFAULT 0 CHECK (spread BETWEEN 0 AND 86400), -- seconds
    ADD COLUMN place           double precision NOT NULL DEFAULT headgate.next_place(),
    ADD COLUMN overlap         text NOT NULL DEFAULT 'skip' CHECK (overlap IN ('skip', 'buffer_one', 'buffer_all', 'cancel', 'allow')),
    ADD COLUMN buffer_max      int NOT NULL DEFAULT 100 CHECK (buffer_max BETWEEN 1 AND 1000),
    ADD COLUMN buffered        jsonb NOT NULL DEFAULT '[]',   -- occurrences that wait for the run before them
    ADD COLUMN catch_up        text NOT NULL DEFAULT 'latest' CHECK (catch_up IN ('none', 'latest', 'all')),
    ADD COLUMN catch_up_max    int NOT NULL DEFAULT 10 CHECK (catch_up_max BETWEEN 1 AND 1000),
    ADD COLUMN catch_up_window int NOT NULL DEFAULT 0 CHECK (catch_up_window >= 0), -- seconds; 0: no bound
    ADD COLUMN pause_after     int NOT NULL DEFAULT 0 CHECK (pause_after BETWEEN 0 AND 1000), -- failures in a row; 0: never
    ADD COLUMN paused_by       text NOT NULL DEFAULT '',
    ADD COLUMN paused_at       timestamptz,
    ADD COLUMN paused_until    timestamptz,
    ADD COLUMN resumed_at      timestamptz,                   -- older failures do not count
    ADD COLUMN next_nominal_at timestamptz,                   -- next_run_at without the delay of the spread
    ADD COLUMN answered_at     timestamptz,
    ADD COLUMN last_job_uid    uuid,
    ADD COLUMN version         int NOT NULL DEFAULT 1,
    ADD CHECK ((tenant_id IS NULL) <> (database_id IS NULL));

CREATE UNIQUE INDEX schedules_database ON headgate.schedules (database_id, name) WHERE database_id IS NOT NULL;

UPDATE headgate.schedules SET next_nominal_at = next_run_at, answered_at = coalesce(last_run_at, created_at);

-- What became of each occurrence. No reference to the schedule: a batch would
-- check it for each row, and answers outlive a tenant until they are old.
CREATE TABLE headgate.occurrences (
    schedule_id  uuid NOT NULL,
    nominal_at   timestamptz NOT NULL,             -- of the first in a run
    origin       text NOT NULL DEFAULT 'clock' CHECK (origin IN ('clock', 'dst', 'trigger', 'backfill')),
    last_at      timestamptz NOT NULL,             -- of the last in a run
    count        int NOT NULL DEFAULT 1,
    outcome      text NOT NULL CHECK (outcome IN ('fired', 'skipped_overlap', 'skipped_paused', 'skipped_dst', 'skipped_excluded',
                                                  'missed_window', 'coalesced', 'suspended', 'failed_to_enqueue')),
    effective_at timestamptz,                      -- when a fired one was due: nominal and the spread's delay
    decided_at   timestamptz NOT NULL,
    job_uid      uuid,
    note         text NOT NULL DEFAULT '',
    PRIMARY KEY (schedule_id, nominal_at, origin)
);

CREATE INDEX occurrences_age ON headgate.occurrences USING brin (decided_at) WITH (autosummarize = on);

-- Who changed what in a schedule. Append only.
CREATE TABLE headgate.schedule_changes (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    schedule_id uuid NOT NULL,
    tenant_id   uuid,
    name        text NOT NULL,
    version     int NOT NULL,
    actor       text NOT NULL DEFAULT '',
    action      text NOT NULL,
    note        text NOT NULL DEFAULT '',
    before      jsonb,
    after       jsonb
);

CREATE INDEX schedule_changes_schedule ON headgate.schedule_changes (schedule_id, id);

-- Named calendars of days on which nothing fires: an array of {from, to, note}.
CREATE TABLE headgate.calendars (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    days jsonb NOT NULL CHECK (jsonb_typeof(days) = 'array')
);
