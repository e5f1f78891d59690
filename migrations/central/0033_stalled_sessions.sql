-- A process may stop while the answer to a statement is on its way to it, or the data of a
-- COPY on the way from it. Its session then waits for its client, and no timeout of
-- Postgres's counts that wait: neither that of statements nor that of idle transactions.
-- Its locks would stay until the process dies.
--
-- This function ends the sessions of the caller's own role that have been at one statement
-- for 4 seconds, wait for their client, and hold what others need: an advisory lock, or
-- rows of the queue or of Headgate's tables. The statement must be one that writes or locks
-- there: a transaction of the application's that has enqueued, and now reads a long answer
-- of its own, is left alone. Of COPYs only a scheduler's is ended (advisory lock 4739),
-- because any other client may take its time. Returns how many it ended.
--
-- A session that a statement's timeout has met just before cannot be ended: Postgres takes
-- no signal while it hands over an error. Where an answer may be long, that timeout must
-- therefore be longer than this function needs.
CREATE FUNCTION headgate.end_stalled_sessions() RETURNS int LANGUAGE sql VOLATILE SET search_path = pg_catalog AS $$
    SELECT count(*) FILTER (WHERE ended)::int FROM (
        SELECT pg_terminate_backend(a.pid) AS ended
        FROM pg_stat_activity a
        CROSS JOIN LATERAL (
            SELECT count(*) > 0 AS anything, coalesce(bool_or(l.locktype = 'advisory' AND l.classid = 4739), false) AS schedules
            FROM pg_locks l
            WHERE l.pid = a.pid AND l.granted
              AND (l.locktype = 'advisory'
                   OR l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
                      AND l.relation IN (SELECT c.oid FROM pg_class c WHERE c.relname = 'river_job' OR c.relnamespace = 'headgate'::regnamespace))
        ) held
        WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid()
          AND (a.state = 'active' AND a.wait_event = 'ClientRead' OR a.state <> 'idle' AND a.wait_event = 'ClientWrite')
          AND a.query_start < clock_timestamp() - interval '4 seconds'
          AND CASE WHEN a.query ~* '^[[:space:]]*copy[[:space:]]' THEN held.schedules
                   ELSE held.anything AND a.query ~* '(headgate[.]|river_job|-- name: Job)' AND a.query ~* '(insert|update|delete)' END
    ) e
$$;
