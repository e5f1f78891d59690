-- Which workers have given no sign of life lately. Others judge by their own clocks, and
-- the last ones to die have nobody left who does. What people read is judged here, by
-- the database's clock; nothing is decided by it.

ALTER TABLE headgate.workers ADD COLUMN dead_after interval NOT NULL DEFAULT '30 seconds';

-- Neither end of the time counts a clock that was set back as a sign of life.
CREATE FUNCTION headgate.silent(beat_at timestamptz, dead_after interval) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.clock_timestamp() NOT BETWEEN beat_at - dead_after AND beat_at + dead_after
$$;

-- Who has locked a row, by the row's xmax, for longer than our own transactions take; NULL
-- if nobody has, or several share the lock.
CREATE FUNCTION headgate.locked_by(x xid) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.format('session %s of %s (%s, %s, since %s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application_name'),
                             coalesce(a.state, 'its state is not shown'), coalesce(pg_catalog.date_trunc('second', a.xact_start)::text, 'unknown'))
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'transactionid' AND l.transactionid = x AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
      AND coalesce(a.xact_start < pg_catalog.clock_timestamp() - interval '1 second', true)
    LIMIT 1
$$;

-- The queues that have available jobs. It jumps from one to the next, so it costs the same
-- however many jobs there are.
CREATE FUNCTION headgate.waiting_queues() RETURNS SETOF text LANGUAGE sql STABLE AS $$
    WITH RECURSIVE queues (queue, n) AS (
        (SELECT queue, 1 FROM river_job WHERE state = 'available' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT j.queue FROM river_job j WHERE j.state = 'available' AND j.queue > q.queue ORDER BY j.queue LIMIT 1), n + 1
        FROM queues q WHERE q.queue IS NOT NULL AND n < 1000
    )
    SELECT queue FROM queues WHERE queue IS NOT NULL
$$;
