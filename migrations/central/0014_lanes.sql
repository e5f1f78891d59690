-- Fair claiming (worker/claim). A lane is the work of one tenant, of one kind, in
-- one queue; for jobs of scope database, of one database. Claims take their turns
-- under one advisory lock, read what people write (limits, pauses, the catalog)
-- and write these tables, which nobody else does: a person's open transaction
-- never keeps a queue waiting.

-- Whose work a row of the queue is: a tenant's or a database's UUID, or '' for
-- what another River client inserted without either.
CREATE FUNCTION headgate.lane(metadata jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(coalesce(metadata->>'tenant', metadata->>'database', ''), 64);

CREATE INDEX river_job_headgate_lane ON river_job (queue, headgate.lane(metadata), kind, priority, scheduled_at, id)
    WHERE state = 'available';

CREATE TABLE headgate.lanes (
    queue       text NOT NULL,
    lane        text NOT NULL,
    kind        text NOT NULL,
    -- Has, or may have, rows that are due. One that is not has no claimable rows
    -- (or may not have them taken), and costs no claim anything.
    active      boolean NOT NULL,
    wake_at     timestamptz,                 -- when it must be looked at again although nobody wakes it
    -- Worker-seconds received by the lane's owner in this queue, over its weight;
    -- the same in all active lanes of one owner. The lowest is served first.
    vtime       double precision NOT NULL,
    cost        double precision NOT NULL,   -- an attempt's length in seconds, a running mean
    -- What the catalog and the limits said of the owner when the lane was last woken.
    server_id   uuid NOT NULL,               -- nil UUID: none
    database_id uuid NOT NULL,
    held        text NOT NULL,               -- why nothing of it is claimed, or ''
    weight      double precision NOT NULL,
    max_running int,                         -- of the owner, over all queues and kinds
    rate        int,                         -- of the owner: so many starts
    rate_period interval,                    -- in so long
    PRIMARY KEY (queue, lane, kind)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX lanes_walk ON headgate.lanes (queue, server_id, kind, vtime) WHERE active;
CREATE INDEX lanes_wake ON headgate.lanes (queue, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX lanes_owner ON headgate.lanes (lane);

-- The groups that a claim takes or leaves as a whole: a full server or a paused
-- kind hides nobody, however many lanes wait behind it. Found by the sweep when
-- it is over.
CREATE TABLE headgate.lane_groups (
    queue     text NOT NULL,
    server_id uuid NOT NULL,
    kind      text NOT NULL,
    PRIMARY KEY (queue, server_id, kind)
);

-- How far each queue's service has come: a lane that was idle starts here.
CREATE TABLE headgate.lane_clocks (
    queue text PRIMARY KEY,
    vtime double precision NOT NULL DEFAULT 0,
    cost  double precision NOT NULL DEFAULT 0.02  -- what is guessed of a lane that has no attempts yet
) WITH (fillfactor = 20);

-- Lanes that have got new rows, or whose owner has changed. Appended by whoever
-- does that, in the same transaction; consumed by the next claim.
CREATE TABLE headgate.wakeups (
    queue text NOT NULL,
    lane  text NOT NULL,
    kind  text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- What each worker process is running, as of its last claim. Limits are counted
-- by these rows; the reaper takes away those of the dead.
CREATE TABLE headgate.hands (
    incarnation uuid PRIMARY KEY,
    hand        jsonb NOT NULL,
    waiting     boolean NOT NULL             -- a limit kept something from it
) WITH (fillfactor = 20);

CREATE FUNCTION headgate.empty_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM headgate.hands WHERE incarnation = NEW.incarnation;
    PERFORM headgate.wake_queues();
    RETURN NULL;
END $$;

-- How each process's claims went between its last two heartbeats.
ALTER TABLE headgate.workers ADD COLUMN claims jsonb NOT NULL DEFAULT '{}';

-- When an owner with a rate may start its next job (the generic cell rate
-- algorithm's theoretical arrival time).
CREATE TABLE headgate.lane_rates (
    lane text PRIMARY KEY,
    tat  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What people decide.

CREATE TABLE headgate.plan_limits (
    plan        text PRIMARY KEY,
    max_running int CHECK (max_running BETWEEN 1 AND 100000),
    weight      double precision CHECK (weight BETWEEN 0.001 AND 1000),
    rate        int CHECK (rate BETWEEN 1 AND 1000000),
    rate_period interval CHECK (rate_period BETWEEN '1 second' AND '1 day'),
    CHECK ((rate IS NULL) = (rate_period IS NULL))
);

CREATE TABLE headgate.tenant_limits (
    tenant_id   uuid PRIMARY KEY REFERENCES headgate.tenants ON DELETE CASCADE,
    max_running int CHECK (max_running BETWEEN 1 AND 100000),
    weight      double precision CHECK (weight BETWEEN 0.001 AND 1000),
    rate        int CHECK (rate BETWEEN 1 AND 1000000),
    rate_period interval CHECK (rate_period BETWEEN '1 second' AND '1 day'),
    CHECK ((rate IS NULL) = (rate_period IS NULL))
);

CREATE TABLE headgate.kind_limits (
    kind           text PRIMARY KEY,
    max_running    int CHECK (max_running BETWEEN 1 AND 100000),
    max_per_tenant int CHECK (max_per_tenant BETWEEN 1 AND 100000)
);

CREATE TABLE headgate.queue_limits (
    queue       text PRIMARY KEY,
    max_running int NOT NULL CHECK (max_running BETWEEN 1 AND 100000)
);

CREATE TABLE headgate.pauses (
    scope     text NOT NULL CHECK (scope IN ('tenant', 'kind', 'queue', 'server')),
    target    text NOT NULL,                 -- a tenant's or server's UUID, a kind, a queue
    paused_by text NOT NULL DEFAULT '',
    note      text NOT NULL DEFAULT '',
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz,                   -- NULL: until somebody resumes it
    PRIMARY KEY (scope, target)
);

-- Servers and databases that do not answer. Claims leave out what lives there
-- until the time is up, then let 1, 2, 4 … jobs through.
CREATE TABLE headgate.breakers (
    scope   text NOT NULL CHECK (scope IN ('server', 'database')),
    id      uuid NOT NULL,
    since   timestamptz NOT NULL DEFAULT now(),
    until   timestamptz NOT NULL,
    allowed int NOT NULL DEFAULT 1,
    cause   text NOT NULL DEFAULT '',
    worker  text NOT NULL DEFAULT '',        -- who found out first
    PRIMARY KEY (scope, id)
);

-- A UUID, or NULL where a lane is named by something else.
CREATE FUNCTION headgate.lane_uuid(lane text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN lane ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN lane::uuid END;

-- Wake-ups. The insert trigger is one a statement, so that COPY pays once; the
-- update trigger's condition keeps it away from claims and ends.

CREATE FUNCTION headgate.wake_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headgate.wakeups (queue, lane, kind)
    SELECT DISTINCT queue, headgate.lane(metadata), kind FROM inserted WHERE state = 'available';
    RETURN NULL;
END $$;

CREATE FUNCTION headgate.wake_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headgate.wakeups (queue, lane, kind) VALUES (NEW.queue, headgate.lane(NEW.metadata), NEW.kind);
    RETURN NULL;
END $$;

CREATE TRIGGER headgate_wake_inserted AFTER INSERT ON river_job REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.wake_inserted();

CREATE TRIGGER headgate_wake_updated AFTER UPDATE OF state, queue, kind, metadata, scheduled_at ON river_job FOR EACH ROW
    WHEN (NEW.state = 'available' AND (OLD.state <> 'available' OR OLD.queue <> NEW.queue OR OLD.kind <> NEW.kind
          OR OLD.scheduled_at > NEW.scheduled_at OR OLD.metadata IS DISTINCT FROM NEW.metadata))
    EXECUTE FUNCTION headgate.wake_updated();

-- Wakes all lanes of an owner and the workers of their queues, in milliseconds.
CREATE FUNCTION headgate.wake_owner(p_lane text) RETURNS void LANGUAGE sql AS $$
    WITH woken AS (
        INSERT INTO headgate.wakeups (queue, lane, kind)
        SELECT queue, lane, kind FROM headgate.lanes WHERE lane = p_lane RETURNING queue
    )
    SELECT pg_notify(current_schema() || '.river_insert', json_build_object('queue', queue)::text) FROM (SELECT DISTINCT queue FROM woken) q
$$;

-- Wakes the workers of all queues: what is decided of kinds, queues and servers is
-- read by every claim.
CREATE FUNCTION headgate.wake_queues() RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify(current_schema() || '.river_insert', json_build_object('queue', queue)::text) FROM headgate.lane_clocks
$$;

CREATE FUNCTION headgate.owner_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'tenants' THEN
        PERFORM headgate.wake_owner(OLD.id::text);
    ELSIF TG_TABLE_NAME = 'databases' THEN
        PERFORM headgate.wake_owner(OLD.id::text);
        PERFORM headgate.wake_owner(id::text) FROM headgate.tenants WHERE database_id = OLD.id;
    ELSIF TG_TABLE_NAME = 'plan_limits' THEN
        PERFORM headgate.wake_owner(id::text) FROM headgate.tenants
        WHERE plan IN (coalesce(NEW.plan, OLD.plan), coalesce(OLD.plan, NEW.plan));
    ELSE
        PERFORM headgate.wake_owner(coalesce(NEW.tenant_id, OLD.tenant_id)::text);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION headgate.pause_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(NEW.scope, OLD.scope) = 'tenant' THEN
        PERFORM headgate.wake_owner(coalesce(NEW.target, OLD.target));
    ELSE
        PERFORM headgate.wake_queues();
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION headgate.limit_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM headgate.wake_queues();
    RETURN NULL;
END $$;

CREATE TRIGGER lanes_tenant AFTER UPDATE ON headgate.tenants FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.plan <> NEW.plan OR OLD.database_id <> NEW.database_id)
    EXECUTE FUNCTION headgate.owner_changed();
CREATE TRIGGER lanes_tenant_gone AFTER DELETE ON headgate.tenants FOR EACH ROW EXECUTE FUNCTION headgate.owner_changed();
CREATE TRIGGER lanes_database AFTER UPDATE ON headgate.databases FOR EACH ROW
    WHEN (OLD.server_id <> NEW.server_id) EXECUTE FUNCTION headgate.owner_changed();
CREATE TRIGGER lanes_plan AFTER INSERT OR UPDATE OR DELETE ON headgate.plan_limits FOR EACH ROW EXECUTE FUNCTION headgate.owner_changed();
CREATE TRIGGER lanes_limits AFTER INSERT OR UPDATE OR DELETE ON headgate.tenant_limits FOR EACH ROW EXECUTE FUNCTION headgate.owner_changed();
CREATE TRIGGER lanes_pause AFTER INSERT OR UPDATE OR DELETE ON headgate.pauses FOR EACH ROW EXECUTE FUNCTION headgate.pause_changed();
CREATE TRIGGER lanes_kind AFTER INSERT OR UPDATE OR DELETE ON headgate.kind_limits FOR EACH STATEMENT EXECUTE FUNCTION headgate.limit_changed();
CREATE TRIGGER lanes_queue AFTER INSERT OR UPDATE OR DELETE ON headgate.queue_limits FOR EACH STATEMENT EXECUTE FUNCTION headgate.limit_changed();
CREATE TRIGGER lanes_server AFTER UPDATE ON headgate.servers FOR EACH ROW
    WHEN (OLD.connection_budget <> NEW.connection_budget OR OLD.state <> NEW.state)
    EXECUTE FUNCTION headgate.limit_changed();

CREATE TRIGGER lanes_worker_gone AFTER UPDATE ON headgate.workers FOR EACH ROW
    WHEN (OLD.reaped_at IS NULL AND OLD.ended_at IS NULL AND (NEW.reaped_at IS NOT NULL OR NEW.ended_at IS NOT NULL))
    EXECUTE FUNCTION headgate.empty_hand();

-- The triggers see what comes; what waits already is woken here.
INSERT INTO headgate.wakeups (queue, lane, kind)
SELECT DISTINCT queue, headgate.lane(metadata), kind FROM river_job WHERE state = 'available';

-- The queue's rows live for milliseconds in most of their states: dead versions
-- are cleaned up as they come, not after a fifth of the table has died.
ALTER TABLE river_job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);
