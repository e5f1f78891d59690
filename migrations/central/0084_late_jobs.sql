-- A transaction that has enqueued a job may be open still when its tenant is erased. Its job
-- would come after the erasure, with its arguments.
--
--   the transaction:  inserts, and so holds river_job ── looks for an erasure, and is refused
--   the erasure:      is committed ── notes which transactions there are ── waits for those
--                     that hold river_job ── looks for jobs, and erases
--
-- Of each pair one sees the other: an insert that sees no erasure is of a transaction that the
-- erasure waits for.

ALTER TABLE headgate.erasures ADD COLUMN horizon xid8; -- transactions before it may have seen no erasure

DROP TRIGGER audit_added ON headgate.erasures;
DROP TRIGGER audit_changed ON headgate.erasures;
DROP TRIGGER audit_removed ON headgate.erasures;
SELECT headgate.audit_table('erasures', 'erasure', 'tenant_id', 'tenant_id', 'tenant_id', 'asked_at,operation,horizon');

-- Refuses jobs of a tenant that is being erased, or was. A tombstone tells no more than a
-- job's UID, and the end of that job may need the tombstone. OFFSET 0 has each tenant looked
-- for by the key, however many were ever erased.
CREATE FUNCTION headgate.refuse_late_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_tenant uuid;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- An older snapshot shows neither. The lock fails if the tenant was removed since.
        PERFORM FROM headgate.tenants t
        WHERE t.id IN (SELECT headgate.lane_uuid(headgate.lane(n.metadata)) FROM inserted n) ORDER BY t.id FOR KEY SHARE;
        SELECT t.id INTO v_tenant FROM headgate.tenants t
        WHERE t.id IN (SELECT headgate.lane_uuid(headgate.lane(n.metadata)) FROM inserted n WHERE NOT starts_with(n.kind, 'headgate.tombstone')) AND t.status = 'removed' LIMIT 1;
    ELSE
        SELECT n.tenant_id INTO v_tenant
        FROM (SELECT DISTINCT headgate.lane_uuid(headgate.lane(i.metadata)) AS tenant_id, starts_with(i.kind, 'headgate.tombstone') AS stone FROM inserted i) n
        WHERE EXISTS (SELECT FROM headgate.erasures e WHERE e.tenant_id = n.tenant_id AND (e.done_at IS NOT NULL OR NOT n.stone) OFFSET 0) LIMIT 1;
    END IF;
    IF v_tenant IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'HG102', CONSTRAINT = 'no_late_jobs', DETAIL = v_tenant::text,
            MESSAGE = format('tenant %s was removed, and takes no work', v_tenant), HINT = 'headgate tenant list shows its status.';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER headgate_refuse_late_jobs AFTER INSERT ON river_job REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.refuse_late_jobs();

-- A job that is given to such a tenant by an UPDATE comes as late as one that is inserted.
-- A trigger before the change would lock each row once more.
CREATE FUNCTION headgate.refuse_given_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.refuse_old_snapshot(format('job %s gets another tenant', NEW.id));
    IF EXISTS (SELECT FROM headgate.erasures e WHERE e.tenant_id = headgate.lane_uuid(headgate.lane(NEW.metadata))) THEN
        RAISE EXCEPTION USING ERRCODE = 'HG102', CONSTRAINT = 'no_late_jobs', DETAIL = headgate.lane(NEW.metadata),
            MESSAGE = format('tenant %s was removed, and takes no work', headgate.lane(NEW.metadata)), HINT = 'headgate tenant list shows its status.';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER headgate_refuse_given_jobs AFTER UPDATE OF metadata ON river_job FOR EACH ROW
    WHEN (OLD.metadata->>'tenant' IS DISTINCT FROM NEW.metadata->>'tenant' AND NEW.metadata->>'tenant' IS NOT NULL) EXECUTE FUNCTION headgate.refuse_given_jobs();

-- Names a session whose transaction may have enqueued a job of a tenant before it could see
-- the tenant's erasure, and is open; '' if there is none. The caller's next statement then
-- sees all jobs that there will ever be. The first call notes the horizon. In a restored copy
-- transactions are counted anew, so that no horizon lies ahead.
--
-- A transaction that wrote to the queue holds river_job until its end, also if it is prepared.
CREATE FUNCTION headgate.late_session(p_tenant uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_horizon xid8;
    v_session text;
BEGIN
    PERFORM headgate.refuse_old_snapshot(format('the erasure of tenant %s looks for open transactions', p_tenant));
    UPDATE headgate.erasures SET horizon = least(horizon, pg_snapshot_xmax(pg_current_snapshot())) WHERE tenant_id = p_tenant AND done_at IS NULL
    RETURNING horizon INTO v_horizon;
    SELECT CASE WHEN x.pid IS NULL THEN 'a prepared transaction' ELSE format('session %s of %s', x.pid, coalesce(a.usename, '?')) END INTO v_session
    FROM pg_snapshot_xip(pg_current_snapshot()) AS open (xid)
    JOIN pg_locks x ON x.locktype = 'transactionid' AND x.transactionid = open.xid::xid AND x.granted AND x.mode = 'ExclusiveLock'
    JOIN pg_locks q ON q.virtualtransaction = x.virtualtransaction AND q.pid IS NOT DISTINCT FROM x.pid AND q.locktype = 'relation' AND q.granted
        AND q.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND q.relation = to_regclass(format('%I.river_job', (SELECT s.schema FROM headgate.queue s))) AND q.mode = 'RowExclusiveLock'
    LEFT JOIN pg_stat_activity a ON a.pid = x.pid
    WHERE open.xid < v_horizon LIMIT 1;
    RETURN coalesce(v_session, '');
END $$;

-- Only the job that erases ends an erasure, by the functions above, which work as their owner.
CREATE FUNCTION headgate.erasure_ends_by_its_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT c.relowner FROM pg_class c WHERE c.oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %s may not say that tenant %s was erased: the job that erases it does', quote_ident(current_user), NEW.tenant_id), HINT = 'headgate tenant erase asks for the job.';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER erasure_ends_by_its_job BEFORE UPDATE ON headgate.erasures FOR EACH ROW
    WHEN ((OLD.tenant_id, OLD.done_at, OLD.rows, OLD.horizon) IS DISTINCT FROM (NEW.tenant_id, NEW.done_at, NEW.rows, NEW.horizon)
       OR OLD.done_at IS NOT NULL AND OLD IS DISTINCT FROM NEW) EXECUTE FUNCTION headgate.erasure_ends_by_its_job();
CREATE TRIGGER erasure_begins_unended BEFORE INSERT ON headgate.erasures FOR EACH ROW
    WHEN (NEW.done_at IS NOT NULL OR NEW.horizon IS NOT NULL) EXECUTE FUNCTION headgate.erasure_ends_by_its_job();
