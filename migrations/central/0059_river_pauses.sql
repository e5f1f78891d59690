-- River's own pause of a queue, which its UI and its clients make, beside Headgate's pauses:
-- seen with them, and ended by the same command.

-- All pauses that hold. Claims read active_pauses; River itself heeds its own.
CREATE VIEW headgate.all_pauses AS
SELECT p.scope, p.target, p.paused_by, p.note, p.since, p.until, false AS in_river FROM headgate.active_pauses p
UNION ALL
SELECT 'queue', q.name, 'River', 'by its UI or another client', CASE WHEN isfinite(q.paused_at) THEN q.paused_at ELSE 'epoch' END, NULL, true
FROM river_queue q WHERE q.paused_at IS NOT NULL;

CREATE OR REPLACE VIEW headgate_api.pauses AS
SELECT p.scope, p.target, p.paused_by, p.note, p.since, p.until FROM headgate.all_pauses p;

-- Ends River's pause of a queue, as River's QueueResume does, and says whether there was one.
-- Applications may not write the table itself.
CREATE FUNCTION headgate.resume_in_river(queue text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH resumed AS (
        UPDATE river_queue q SET paused_at = NULL, updated_at = now() WHERE q.name = resume_in_river.queue AND q.paused_at IS NOT NULL RETURNING q.name
    ), told AS (
        SELECT pg_notify((SELECT schema FROM headgate.queue) || '.river_control', json_build_object('action', 'resume', 'queue', r.name)::text) FROM resumed r
    )
    SELECT count(*) > 0 FROM told;
END;
