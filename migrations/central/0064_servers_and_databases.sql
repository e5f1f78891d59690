-- What may be changed of servers and databases after they were entered, and how many
-- tenants a database takes.

ALTER TABLE headgate.servers
    ADD COLUMN state_reason text NOT NULL DEFAULT '' CHECK (length(state_reason) <= 500),
    ADD COLUMN state_by     text NOT NULL DEFAULT '',
    ADD COLUMN state_since  timestamptz NOT NULL DEFAULT now() CHECK (isfinite(state_since));

ALTER TABLE headgate.databases
    -- The jobs of a detached database wait: it is being moved, or restored.
    ADD COLUMN state        text NOT NULL DEFAULT 'attached' CHECK (state IN ('attached', 'detached')),
    ADD COLUMN state_reason text NOT NULL DEFAULT '' CHECK (length(state_reason) <= 500),
    ADD COLUMN state_by     text NOT NULL DEFAULT '',
    ADD COLUMN state_since  timestamptz NOT NULL DEFAULT now() CHECK (isfinite(state_since)),
    ADD COLUMN max_tenants  int CHECK (max_tenants BETWEEN 1 AND 1000000), -- NULL: any number
    -- Whose tenants are placed there. NULL: of any plan.
    ADD COLUMN plans        text[] CHECK (array_position(plans, NULL) IS NULL AND array_ndims(plans) = 1);

-- A server or a database goes only when nothing refers to it. A decision to adopt a database
-- is of no use without that database.
ALTER TABLE headgate.closures DROP CONSTRAINT closures_server_id_fkey,
    ADD CONSTRAINT closures_server_id_fkey FOREIGN KEY (server_id) REFERENCES headgate.servers;
ALTER TABLE headgate.schedules DROP CONSTRAINT schedules_database_id_fkey,
    ADD CONSTRAINT schedules_database_id_fkey FOREIGN KEY (database_id) REFERENCES headgate.databases;
ALTER TABLE headgate.adoptions DROP CONSTRAINT adoptions_database_id_fkey,
    ADD CONSTRAINT adoptions_database_id_fkey FOREIGN KEY (database_id) REFERENCES headgate.databases;

-- Whatever is held of an owner: first by its own status, then by its database's state.
CREATE OR REPLACE VIEW headgate.lane_owners AS
SELECT t.id, d.server_id, d.id AS database_id,
       CASE WHEN t.status <> 'active' THEN t.status WHEN d.state <> 'attached' THEN d.state WHEN p.scope IS NOT NULL THEN 'paused' ELSE '' END AS held,
       CASE WHEN t.status = 'active' AND d.state = 'attached' THEN p.until END AS held_until,
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
SELECT d.id, d.server_id, d.id, CASE WHEN d.state <> 'attached' THEN d.state ELSE '' END, NULL, 1, NULL, NULL, NULL
FROM headgate.databases d;

-- Wakes all lanes of a database and of its tenants, in one statement however many they are.
CREATE FUNCTION headgate.database_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_queues text[];
BEGIN
    WITH woken AS (
        INSERT INTO headgate.wakeups (queue, lane, kind)
        SELECT l.queue, l.lane, l.kind FROM headgate.lanes l
        WHERE l.lane IN (SELECT OLD.id::text UNION ALL SELECT t.id::text FROM headgate.tenants t WHERE t.database_id = OLD.id)
        RETURNING queue
    )
    SELECT array_agg(DISTINCT w.queue) INTO v_queues FROM woken w;
    PERFORM headgate.notify_queues(v_queues);
    RETURN NULL;
END $$;

DROP TRIGGER lanes_database ON headgate.databases;
CREATE TRIGGER lanes_database AFTER UPDATE ON headgate.databases FOR EACH ROW
    WHEN (OLD.server_id <> NEW.server_id OR OLD.state <> NEW.state) EXECUTE FUNCTION headgate.database_changed();

-- How many tenants have their rows in a database.
CREATE FUNCTION headgate.tenants_in(p_database uuid) RETURNS bigint
LANGUAGE sql STABLE
RETURN (SELECT count(*) FROM headgate.tenants t WHERE t.database_id = p_database AND t.status <> 'removed');

-- Keeps every writer to what a database takes. Whoever places tenants in a database with a
-- bound holds its row until the end of the transaction, so that the next one counts them.
CREATE FUNCTION headgate.check_placement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gaining uuid[];
    v_db      record;
    v_plan    text;
    v_count   bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        v_gaining := ARRAY(SELECT n.id FROM fresh_rows n WHERE n.database_id IS NOT NULL);
    ELSE
        v_gaining := ARRAY(SELECT n.id FROM fresh_rows n JOIN old_rows o ON o.id = n.id WHERE n.database_id IS NOT NULL AND n.database_id IS DISTINCT FROM o.database_id);
    END IF;
    IF cardinality(v_gaining) = 0 THEN
        RETURN NULL;
    END IF;
    FOR v_db IN
        SELECT d.id, d.name, d.max_tenants, d.plans FROM headgate.databases d
        WHERE d.id IN (SELECT n.database_id FROM fresh_rows n WHERE n.id = ANY (v_gaining)) AND (d.max_tenants IS NOT NULL OR d.plans IS NOT NULL)
        ORDER BY d.id FOR NO KEY UPDATE
    LOOP
        v_count := headgate.tenants_in(v_db.id);
        IF v_count > v_db.max_tenants THEN
            RAISE EXCEPTION 'database % takes % tenants, and would have %', v_db.name, v_db.max_tenants, v_count
                USING ERRCODE = 'check_violation', CONSTRAINT = 'databases_full', DETAIL = v_db.name;
        END IF;
        SELECT n.plan INTO v_plan FROM fresh_rows n
        WHERE n.id = ANY (v_gaining) AND n.database_id = v_db.id AND NOT n.plan = ANY (v_db.plans) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'database % takes no tenant of plan %', v_db.name, quote_literal(v_plan)
                USING ERRCODE = 'check_violation', CONSTRAINT = 'databases_plans', DETAIL = v_db.name;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER check_placement_inserted AFTER INSERT ON headgate.tenants REFERENCING NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_placement();
CREATE TRIGGER check_placement_updated AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_placement();
