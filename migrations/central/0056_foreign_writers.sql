-- What other River clients, and people, write into the queue. Another client ends a job that
-- waits or runs, and deletes it, whether an attempt at it has had its effect or not. Only the
-- tenant's ledger knows, and only the worker that runs a job tells whether it still runs. So
-- a row whose last attempt was Headgate's is ended by Headgate alone.
--
-- Headgate's own statements say so themselves, for their transaction: headgate.writer is
-- 'headgate'. They never meet the conditions, so they pay nothing but the comparison.
--
-- The triggers come after the change, because a trigger before it would lock each row a second
-- time, of every statement. So the answer to the other client still says what it wrote. The
-- conditions name no function of ours, because the other client may have no right on them.
--
-- In each of them the last line says: a row that was begun, and not by another client last.

-- Programs of before this migration do not say it. A worker that does says so when it
-- registers, so that the ends of an older one stand while both are at work.
ALTER TABLE headgate.workers ADD COLUMN marks_ends boolean NOT NULL DEFAULT false;

-- Undoes the end that another client has written. What ran runs on, and what waited is due, to
-- be settled by its ledger. An end as cancelled, or of a job that waits, becomes the request
-- that Headgate's client makes. It works as its owner, because that client may have no right
-- on schema headgate.
CREATE FUNCTION headgate.foreign_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    runs boolean := OLD.state = 'running';
    wish boolean := NOT runs OR NEW.state = 'cancelled';
BEGIN
    IF EXISTS (SELECT FROM headgate.workers w
               WHERE w.incarnation = headgate.uuid_or_null(split_part(OLD.attempted_by[array_upper(OLD.attempted_by, 1)], ':', 1)) AND NOT w.marks_ends) THEN
        RETURN NULL;
    END IF;
    EXECUTE format($sql$
UPDATE %I.%I
SET state = CASE WHEN $2 THEN 'running' ELSE 'available' END::%1$I.river_job_state, finalized_at = NULL,
    scheduled_at = CASE WHEN $2 THEN $4 ELSE least($4, now()) END, priority = CASE WHEN $2 THEN priority ELSE 1 END,
    unique_key = CASE WHEN $2 THEN unique_key END, attempt = $5, attempted_at = $6, attempted_by = $7, errors = $8,
    metadata = CASE WHEN $3 THEN headgate.as_object($9)
            || jsonb_build_object('cancel_attempted_at', coalesce($9->'cancel_attempted_at', $10->'cancel_attempted_at', to_jsonb(now())))
            || jsonb_build_object('cancel_request', coalesce($9->'cancel_request', jsonb_build_object('by', $11, 'reason', 'through another River client', 'at', now())))
        ELSE $9 END
WHERE id = $1$sql$, TG_TABLE_SCHEMA, TG_TABLE_NAME)
    USING NEW.id, runs, wish, OLD.scheduled_at, OLD.attempt, OLD.attempted_at, OLD.attempted_by, OLD.errors, OLD.metadata, NEW.metadata, session_user::text;
    IF NOT runs THEN
        PERFORM headgate.notify_queues(ARRAY[NEW.queue]);
    ELSIF wish THEN
        PERFORM pg_notify(TG_TABLE_SCHEMA || '.river_control', json_build_object('action', 'cancel', 'job_id', NEW.id, 'queue', NEW.queue)::text);
    END IF;
    RETURN NULL;
END $$;

-- River's rescuer counts, and may make what runs wait: it does not know who lives.
CREATE TRIGGER headgate_foreign_ended AFTER UPDATE OF state ON river_job FOR EACH ROW
    WHEN (OLD.finalized_at IS NULL AND NEW.state <> OLD.state
          AND (NEW.finalized_at IS NOT NULL OR OLD.state = 'running' AND NEW.metadata->'river:rescue_count' IS DISTINCT FROM OLD.metadata->'river:rescue_count')
          AND current_setting('headgate.writer', true) IS DISTINCT FROM 'headgate'
          AND (OLD.attempted_at IS NOT NULL OR cardinality(OLD.attempted_by) > 0)
          AND coalesce(OLD.attempted_by[array_upper(OLD.attempted_by, 1)] ~ '^([0-9a-f-]{36}:[0-9]+)?(:lost)?$', true))
    EXECUTE FUNCTION headgate.foreign_ended();

-- Refuses to lose a job that was begun and has not ended, or that it was begun. What has ended
-- may go.
CREATE FUNCTION headgate.foreign_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_in_use',
        MESSAGE = format('job %s (row %s) was begun and has not ended: its row stays, because only the row tells whether its effect is still to come', coalesce(OLD.metadata->>'job_uid', '-'), OLD.id),
        HINT = 'Cancel it: headgate job cancel UID, or River''s JobCancel. Rows are deleted by themselves some time after their end.';
END $$;

CREATE TRIGGER headgate_foreign_deleted AFTER DELETE ON river_job FOR EACH ROW
    WHEN (OLD.finalized_at IS NULL
          AND (OLD.attempted_at IS NOT NULL OR cardinality(OLD.attempted_by) > 0)
          AND coalesce(OLD.attempted_by[array_upper(OLD.attempted_by, 1)] ~ '^([0-9a-f-]{36}:[0-9]+)?(:lost)?$', true))
    EXECUTE FUNCTION headgate.foreign_deleted();

CREATE TRIGGER headgate_foreign_forgotten AFTER UPDATE OF attempted_at, attempted_by ON river_job FOR EACH ROW
    WHEN (NEW.attempted_at IS NULL AND coalesce(cardinality(NEW.attempted_by), 0) = 0 AND OLD.finalized_at IS NULL
          AND (OLD.attempted_at IS NOT NULL OR cardinality(OLD.attempted_by) > 0)
          AND coalesce(OLD.attempted_by[array_upper(OLD.attempted_by, 1)] ~ '^([0-9a-f-]{36}:[0-9]+)?(:lost)?$', true))
    EXECUTE FUNCTION headgate.foreign_deleted();

-- The same of all rows at once.
CREATE FUNCTION headgate.foreign_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    begun bigint;
BEGIN
    EXECUTE format($sql$
SELECT count(*) FROM %I.%I
WHERE finalized_at IS NULL
  AND (attempted_at IS NOT NULL OR cardinality(attempted_by) > 0)
  AND coalesce(attempted_by[array_upper(attempted_by, 1)] ~ '^([0-9a-f-]{36}:[0-9]+)?(:lost)?$', true)$sql$, TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO begun;
    IF begun > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('%s jobs were begun and have not ended: their rows stay, because only the rows tell whether their effects are still to come', begun),
            HINT = 'Stop the workers, cancel what waits, and delete what has ended.';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER headgate_foreign_truncated BEFORE TRUNCATE ON river_job FOR EACH STATEMENT EXECUTE FUNCTION headgate.foreign_truncated();
