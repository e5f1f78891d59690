-- Rules that several statements share, each of them once. The planner inlines the
-- functions of one expression and the views, so an index on what they stand for serves.

-- The token of a row's last claim, INCARNATION:NUMBER; ':lost' follows once the claim is void.
CREATE FUNCTION headgate.claim_token(attempted_by text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN attempted_by[array_upper(attempted_by, 1)];

-- The worker process that made the last claim. An index on the running rows has it.
CREATE FUNCTION headgate.claim_incarnation(attempted_by text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN split_part(headgate.claim_token(attempted_by), ':', 1);

-- False of a row that another River client has claimed, and of one that nobody has.
CREATE FUNCTION headgate.is_claimed(attempted_by text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(headgate.claim_token(attempted_by) ~ '^[0-9a-f-]{36}:[0-9]+(:lost)?$', false);

-- What becomes of attempted_by when the last claim is void: an end under it finds no row.
CREATE FUNCTION headgate.void_claim(attempted_by text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN array_ndims(attempted_by) = 1
            THEN attempted_by[:array_upper(attempted_by, 1) - 1] || (regexp_replace(headgate.claim_token(attempted_by), ':lost$', '') || ':lost')
            ELSE ARRAY[':lost'] END;

-- Whether a row names this UID. An index on the rows that are not completed has it.
CREATE FUNCTION headgate.has_uid(metadata jsonb, uid text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN metadata ? 'job_uid' AND metadata->>'job_uid' = uid;

-- Worker processes that have not ended and that nobody has declared dead.
CREATE VIEW headgate.living_workers AS
SELECT * FROM headgate.workers WHERE reaped_at IS NULL AND ended_at IS NULL;

-- What claims count: what the living hold, and what the dead hold whose sessions are still
-- there (0034).
CREATE VIEW headgate.counted_hands AS
SELECT h.incarnation, h.hand, w.reaped_at IS NULL AS alive, w.beat_at, w.dead_after
FROM headgate.hands h JOIN headgate.workers w ON w.incarnation = h.incarnation
WHERE w.ended_at IS NULL AND (w.reaped_at IS NULL OR h.dead AND headgate.is_there(h.hand));

-- Pauses that have not ended by themselves.
CREATE VIEW headgate.active_pauses AS
SELECT * FROM headgate.pauses WHERE coalesce(until > now(), true);

CREATE OR REPLACE VIEW headgate.lane_owners AS
SELECT t.id, d.server_id, d.id AS database_id,
       CASE WHEN t.status <> 'active' THEN t.status WHEN p.scope IS NOT NULL THEN 'paused' ELSE '' END AS held,
       CASE WHEN t.status = 'active' THEN p.until END AS held_until,
       coalesce(tl.weight, pl.weight, 1) AS weight,
       coalesce(tl.max_running, pl.max_running) AS max_running,
       coalesce(tl.rate, pl.rate) AS rate,
       CASE WHEN tl.rate IS NOT NULL THEN tl.rate_period ELSE pl.rate_period END AS rate_period
FROM headgate.tenants t
LEFT JOIN headgate.databases d ON d.id = t.database_id
LEFT JOIN headgate.plan_limits pl ON pl.plan = t.plan
LEFT JOIN headgate.tenant_limits tl ON tl.tenant_id = t.id
LEFT JOIN headgate.active_pauses p ON p.scope = 'tenant' AND p.target = t.id::text
UNION ALL
SELECT d.id, d.server_id, d.id, '', NULL, 1, NULL, NULL, NULL
FROM headgate.databases d;

-- Wakes the workers of queues, as River's own inserts do, and says of how many.
CREATE FUNCTION headgate.notify_queues(queues text[]) RETURNS bigint
LANGUAGE sql VOLATILE
RETURN (SELECT count(pg_notify((SELECT schema FROM headgate.queue) || '.river_insert', json_build_object('queue', queue)::text))
        FROM (SELECT DISTINCT unnest(queues)) AS q (queue));

CREATE OR REPLACE FUNCTION headgate.wake_owner(p_lane text) RETURNS void LANGUAGE sql AS $$
    WITH woken AS (
        INSERT INTO headgate.wakeups (queue, lane, kind)
        SELECT queue, lane, kind FROM headgate.lanes WHERE lane = p_lane RETURNING queue
    )
    SELECT headgate.notify_queues(array_agg(queue)) FROM woken
$$;

CREATE OR REPLACE FUNCTION headgate.wake_queues() RETURNS void LANGUAGE sql AS $$
    SELECT headgate.notify_queues(array_agg(queue)) FROM headgate.lane_clocks
$$;
