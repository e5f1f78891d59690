-- What other River clients write into the queue. Such a client ends a waiting job as cancelled
-- and deletes it, whether an attempt at it has had its effect or not. Only the tenant's ledger
-- knows, so a row that was ever claimed is ended by asking the ledger. Headgate's own
-- statements never meet the conditions, so they pay nothing but the comparison.
--
-- The triggers come after the change, because a trigger before it would lock each row a second
-- time, of every statement. So the answer to the other client still says cancelled.

-- Turns the end that another client has written into the request that Headgate's client makes.
-- It works as its owner, because that client may have no right on schema headgate.
CREATE FUNCTION headgate.foreign_cancelled() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format($sql$
UPDATE %I.%I
SET state = 'available', finalized_at = NULL, scheduled_at = least($2, now()), priority = 1, unique_key = NULL,
    metadata = headgate.as_object(metadata)
            || jsonb_build_object('cancel_attempted_at', coalesce($3, metadata->'cancel_attempted_at', to_jsonb(now())))
            || jsonb_build_object('cancel_request', coalesce($4, jsonb_build_object('by', $5, 'reason', 'through another River client', 'at', now())))
WHERE id = $1 AND state = 'cancelled'$sql$, TG_TABLE_SCHEMA, TG_TABLE_NAME)
    USING NEW.id, OLD.scheduled_at, OLD.metadata->'cancel_attempted_at', OLD.metadata->'cancel_request', session_user::text;
    PERFORM headgate.notify_queues(ARRAY[NEW.queue]);
    RETURN NULL;
END $$;

-- River's cancel notes its time together with the end. River's rescuer counts, and ends what
-- runs. Headgate's own ends do neither.
CREATE TRIGGER headgate_foreign_cancelled AFTER UPDATE OF state ON river_job FOR EACH ROW
    WHEN (NEW.state = 'cancelled' AND OLD.finalized_at IS NULL
          AND (OLD.attempted_at IS NOT NULL OR cardinality(OLD.attempted_by) > 0)
          AND (OLD.state <> 'running' AND NEW.metadata->'cancel_attempted_at' IS DISTINCT FROM OLD.metadata->'cancel_attempted_at'
               OR NEW.metadata->'river:rescue_count' IS DISTINCT FROM OLD.metadata->'river:rescue_count'))
    EXECUTE FUNCTION headgate.foreign_cancelled();

-- Refuses to lose a job that was begun and has not ended. What has ended may go.
CREATE FUNCTION headgate.foreign_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_in_use',
        MESSAGE = format('job %s (row %s) was begun and has not ended: its row stays, because only the row tells whether its effect is still to come', coalesce(OLD.metadata->>'job_uid', '-'), OLD.id),
        HINT = 'Cancel it: headgate job cancel UID, or River''s JobCancel. Rows are deleted by themselves some time after their end.';
END $$;

CREATE TRIGGER headgate_foreign_deleted AFTER DELETE ON river_job FOR EACH ROW
    WHEN (OLD.finalized_at IS NULL AND (OLD.attempted_at IS NOT NULL OR cardinality(OLD.attempted_by) > 0))
    EXECUTE FUNCTION headgate.foreign_deleted();
