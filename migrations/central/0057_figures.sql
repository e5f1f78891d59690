-- The schedules that an error has stopped, which metrics count. A schedule that fires is
-- never among them.
CREATE INDEX schedules_stopped ON headgate.schedules (id) WHERE next_run_at IS NULL AND error <> '';

-- The queues that have available jobs: the first 1,000 by name, and whatever the name those
-- that a living worker takes jobs from, because anybody may enqueue into queues of any name.
-- It jumps from one to the next, so it costs the same however many jobs there are.
CREATE OR REPLACE FUNCTION headgate.waiting_queues() RETURNS SETOF text LANGUAGE sql STABLE AS $$
    WITH RECURSIVE queues (queue, n) AS (
        (SELECT queue, 1 FROM river_job WHERE state = 'available' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT j.queue FROM river_job j WHERE j.state = 'available' AND j.queue > q.queue ORDER BY j.queue LIMIT 1), n + 1
        FROM queues q WHERE q.queue IS NOT NULL AND n < 1000
    )
    SELECT queue FROM queues WHERE queue IS NOT NULL
    UNION
    SELECT s.queue FROM (SELECT DISTINCT unnest(w.queues) AS queue FROM headgate.living_workers w LIMIT 1000) s
    WHERE EXISTS (SELECT FROM river_job j WHERE j.state = 'available' AND j.queue = s.queue)
$$;
