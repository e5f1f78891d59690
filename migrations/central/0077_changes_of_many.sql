-- A statement that changes 10,000 tenants costs what it changes, whatever its session has done
-- before.
--
-- A trigger's function keeps the plan of its first call. After a change of one tenant that
-- plan joined old and new rows by a nested loop: 10,000 tenants took 106 s in the same
-- session, and 6 s in another one. EXCEPT and GROUP BY have no such plan, so no function
-- joins the two tables. The audit's FULL JOIN never is a nested loop.
--
-- Whoever changes a plan wakes lanes by one statement. By a call for each tenant that took
-- two thirds of the change.

-- Wakes the lanes of owners, and the workers of their queues. Of many owners, lanes without
-- work are left out: a claim reads what the catalog says of the owner when the lane gets work.
-- A claim that does so before the change is committed reads the older state, which stays until
-- the next sweep. Of few owners all lanes are woken, so that nothing waits for a sweep.
CREATE FUNCTION headgate.wake_owners(p_lanes text[]) RETURNS void LANGUAGE sql AS $$
    WITH woken AS (
        INSERT INTO headgate.wakeups (queue, lane, kind)
        SELECT l.queue, l.lane, l.kind FROM unnest(p_lanes) AS o (lane) JOIN headgate.lanes l ON l.lane = o.lane
        WHERE cardinality(p_lanes) <= 1000 OR l.active OR l.held <> '' OR l.wake_at IS NOT NULL
        RETURNING queue
    )
    SELECT headgate.notify_queues(array_agg(DISTINCT queue)) FROM woken
$$;

CREATE OR REPLACE FUNCTION headgate.wake_owner(p_lane text) RETURNS void LANGUAGE sql AS $$
    SELECT headgate.wake_owners(ARRAY[p_lane])
$$;

-- The trigger of a statement. What claims copy of an owner (headgate.lane_owners) depends on
-- these columns and rows.
CREATE FUNCTION headgate.owners_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_owners text[];
BEGIN
    IF TG_TABLE_NAME = 'tenants' AND TG_OP = 'UPDATE' THEN
        v_owners := ARRAY(
            SELECT x.id::text
            FROM (SELECT n.id, n.status, n.plan, n.database_id FROM new_rows n EXCEPT SELECT o.id, o.status, o.plan, o.database_id FROM old_rows o) x);
    ELSIF TG_TABLE_NAME = 'tenants' THEN
        v_owners := ARRAY(SELECT o.id::text FROM old_rows o);
    ELSIF TG_TABLE_NAME = 'plan_limits' AND TG_OP = 'INSERT' THEN
        v_owners := ARRAY(SELECT t.id::text FROM headgate.tenants t WHERE t.plan IN (SELECT n.plan FROM new_rows n));
    ELSIF TG_TABLE_NAME = 'plan_limits' AND TG_OP = 'DELETE' THEN
        v_owners := ARRAY(SELECT t.id::text FROM headgate.tenants t WHERE t.plan IN (SELECT o.plan FROM old_rows o));
    ELSIF TG_TABLE_NAME = 'plan_limits' THEN
        v_owners := ARRAY(SELECT t.id::text FROM headgate.tenants t WHERE t.plan IN (SELECT n.plan FROM new_rows n UNION SELECT o.plan FROM old_rows o));
    ELSIF TG_OP = 'INSERT' THEN
        v_owners := ARRAY(SELECT n.tenant_id::text FROM new_rows n);
    ELSIF TG_OP = 'DELETE' THEN
        v_owners := ARRAY(SELECT o.tenant_id::text FROM old_rows o);
    ELSE
        v_owners := ARRAY(SELECT n.tenant_id::text FROM new_rows n UNION SELECT o.tenant_id::text FROM old_rows o);
    END IF;
    IF cardinality(v_owners) > 0 THEN
        PERFORM headgate.wake_owners(v_owners);
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER lanes_tenant ON headgate.tenants;
DROP TRIGGER lanes_tenant_gone ON headgate.tenants;
DROP TRIGGER lanes_plan ON headgate.plan_limits;
DROP TRIGGER lanes_limits ON headgate.tenant_limits;
DROP FUNCTION headgate.owner_changed();

CREATE TRIGGER lanes_tenant AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_tenant_gone AFTER DELETE ON headgate.tenants REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_plan_added AFTER INSERT ON headgate.plan_limits REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_plan_changed AFTER UPDATE ON headgate.plan_limits REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_plan_removed AFTER DELETE ON headgate.plan_limits REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_limits_added AFTER INSERT ON headgate.tenant_limits REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_limits_changed AFTER UPDATE ON headgate.tenant_limits REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();
CREATE TRIGGER lanes_limits_removed AFTER DELETE ON headgate.tenant_limits REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.owners_changed();

CREATE OR REPLACE FUNCTION headgate.refusals_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_kinds    text[]; -- the lanes of whose owners' kinds have changed,
    v_features text[]; -- and of whose features
    v_queues   text[];
BEGIN
    IF TG_TABLE_NAME = 'tenants' THEN
        v_kinds := ARRAY(SELECT x.id::text FROM (SELECT n.id, n.kinds FROM fresh_rows n EXCEPT SELECT o.id, o.kinds FROM old_rows o) x);
        v_features := ARRAY(SELECT x.id::text FROM (SELECT n.id, n.features FROM fresh_rows n EXCEPT SELECT o.id, o.features FROM old_rows o) x);
    ELSE
        v_kinds := ARRAY(SELECT t.id::text FROM headgate.tenants t
            WHERE t.plan IN (SELECT x.name FROM (SELECT n.name, n.kinds FROM fresh_rows n EXCEPT SELECT o.name, o.kinds FROM old_rows o) x));
        v_features := ARRAY(SELECT t.id::text FROM headgate.tenants t
            WHERE t.plan IN (SELECT x.name FROM (SELECT n.name, n.features FROM fresh_rows n EXCEPT SELECT o.name, o.features FROM old_rows o) x));
    END IF;
    IF cardinality(v_kinds) + cardinality(v_features) = 0 THEN
        RETURN NULL;
    END IF;
    WITH woken AS (
        INSERT INTO headgate.wakeups (queue, lane, kind)
        SELECT l.queue, l.lane, l.kind FROM unnest(v_kinds) AS c (lane) JOIN headgate.lanes l ON l.lane = c.lane
        WHERE l.active OR l.held <> ''
        UNION
        SELECT l.queue, l.lane, l.kind FROM unnest(v_features) AS c (lane) JOIN headgate.lanes l ON l.lane = c.lane
        WHERE (l.active OR l.held <> '') AND EXISTS (SELECT FROM headgate.feature_gates g WHERE g.kind <> '' AND g.kind = l.kind)
        RETURNING queue
    )
    SELECT array_agg(DISTINCT queue) INTO v_queues FROM woken;
    IF v_queues IS NOT NULL THEN
        PERFORM headgate.notify_queues(v_queues);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION headgate.note_selector_changes() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    -- A move is nothing that a selector asks for.
    unasked CONSTANT text[] := ARRAY['generation', 'database_kind', 'name', 'version', 'status_reason', 'status_by', 'status_since', 'waiting', 'kinds', 'source'];
    ids   uuid[];
    noted uuid[] := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO headgate.selector_changes (tenant_id) SELECT id FROM fresh_rows;
        RETURN NULL;
    END IF;
    ids := ARRAY(SELECT x.id FROM (SELECT n.id, to_jsonb(n) - unasked FROM fresh_rows n EXCEPT SELECT o.id, to_jsonb(o) - unasked FROM old_rows o) x);
    IF cardinality(ids) = 0 THEN
        RETURN NULL;
    END IF;
    IF current_setting('transaction_isolation') = 'read committed' THEN -- with an older snapshot a row that is gone is an error
        noted := ARRAY(SELECT c.tenant_id FROM headgate.selector_changes c WHERE c.tenant_id = ANY (ids) FOR KEY SHARE SKIP LOCKED);
    END IF;
    INSERT INTO headgate.selector_changes (tenant_id) SELECT unnest(ids) EXCEPT SELECT unnest(noted);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION headgate.check_move() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_moved text[] := ARRAY(SELECT x.id::text FROM (SELECT n.id, n.database_id FROM fresh_rows n EXCEPT SELECT o.id, o.database_id FROM old_rows o) x);
    v_lane  text;
    v_slug  text;
    v_runs  bigint;
    v_open  bigint;
BEGIN
    IF cardinality(v_moved) = 0 THEN
        RETURN NULL;
    END IF;
    EXECUTE format($sql$
        SELECT j.lane, count(*) FILTER (WHERE j.runs), count(*) FILTER (WHERE NOT j.runs) FROM (
            SELECT headgate.lane(metadata) AS lane, true AS runs FROM %1$I.river_job WHERE state = 'running' AND headgate.lane(metadata) = ANY ($1)
            UNION ALL
            SELECT headgate.lane(metadata), false FROM %1$I.river_job
            WHERE finalized_at IS NULL AND metadata ? 'open_since' AND state <> 'running' AND headgate.lane(metadata) = ANY ($1)
        ) j GROUP BY j.lane ORDER BY j.lane LIMIT 1 $sql$, (SELECT q.schema FROM headgate.queue q)) INTO v_lane, v_runs, v_open USING v_moved;
    IF v_lane IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT o.slug INTO v_slug FROM old_rows o WHERE o.id::text = v_lane;
    RAISE EXCEPTION 'the database of tenant % does not change now: % of its jobs run, and of % more an attempt may have had its effect in the old database', v_slug, v_runs, v_open
        USING ERRCODE = 'HG020', HINT = CASE WHEN v_runs > 0 THEN 'While the tenant is moving no further job starts: wait, and change it then.'
            ELSE 'Set the tenant active until these jobs have ended, or cancel them.' END;
END $$;

-- Pages of the tenants of a status that few have, by slug, as tenants_plan_slug has those of a
-- plan.
CREATE INDEX tenants_status_slug ON headgate.tenants (status, slug) WHERE status <> 'active';
