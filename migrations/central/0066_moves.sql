-- A tenant changes its database only while it is moving and nothing of it runs. A job that
-- began in the old database would commit there after the tenant has left, and the tenant
-- would never see its rows.
--
--   claim of a job of the tenant ──┐ these two take the claims' lock (worker/claim/snapshot.go),
--   change of database_id ─────────┘ so that one sees what the other has committed
--
-- The change holds the lock until its transaction ends. What was claimed before is a running
-- row that the change sees. What is claimed afterwards finds the lanes woken, reads the new
-- placement, and resolves the tenant anew.

-- What a process remembers of a placement is older than the status moving for ten seconds at
-- most (orchestrator/catalog/memory.go, Memory.TTL), also if a notification is lost. A worker
-- that resolved the tenant from memory after a quicker change would go to the old database.

CREATE FUNCTION headgate.note_status() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.status_since := clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER note_status BEFORE UPDATE OF status ON headgate.tenants FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND OLD.status_since = NEW.status_since) EXECUTE FUNCTION headgate.note_status();

-- Takes the claims' lock before anything is looked at. The transaction may not idle while it
-- holds what all claims need, whoever began it.
CREATE FUNCTION headgate.begin_move() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status = 'removed' AND NEW.database_id IS NULL THEN
        NULL; -- it leaves for nowhere
    ELSIF OLD.status <> 'moving' THEN
        RAISE EXCEPTION 'tenant % has status %, and its database changes only while it is moving', OLD.slug, OLD.status
            USING ERRCODE = 'HG020', HINT = 'Set its status to moving, wait until no job of it runs, change its database, and set it active.';
    ELSIF clock_timestamp() < OLD.status_since + interval '11 seconds' THEN
        RAISE EXCEPTION 'tenant % is moving only since %, and a worker may remember for ten seconds where it lived', OLD.slug, OLD.status_since
            USING ERRCODE = 'HG020', HINT = 'Change its database 11 seconds after it began to move.';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the database of tenant % changes at isolation level read committed only, because an older snapshot does not show which jobs run', OLD.slug
            USING ERRCODE = 'HG020', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;
    IF (SELECT s.setting::int NOT BETWEEN 1 AND 3000 FROM pg_settings s WHERE s.name = 'idle_in_transaction_session_timeout') THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '3s', true);
    END IF;
    PERFORM pg_advisory_xact_lock(4737, 0);
    IF NEW.database_id IS NOT NULL THEN
        NEW.generation := greatest(NEW.generation, OLD.generation + 1);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER begin_move BEFORE UPDATE OF database_id ON headgate.tenants FOR EACH ROW
    WHEN (OLD.database_id IS DISTINCT FROM NEW.database_id) EXECUTE FUNCTION headgate.begin_move();

-- Looks for jobs under the lock, once a statement. A job whose worker died, or whose end was
-- lost, has an attempt that only the ledger of the old database knows.
CREATE FUNCTION headgate.check_move() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_moved text[] := ARRAY(SELECT n.id::text FROM fresh_rows n JOIN old_rows o ON o.id = n.id WHERE n.database_id IS DISTINCT FROM o.database_id);
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

CREATE TRIGGER check_move AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_move();
