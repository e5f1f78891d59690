-- The queue's indexes, trimmed to what is read. Every one of them is written
-- again when a row is claimed and again when it ends, for the state is part of
-- a key. River's two on args and metadata serve the filters of its JobList only;
-- with a UID and a trace in each row's metadata they cost more than all others.
DROP INDEX IF EXISTS river_job_args_index;
DROP INDEX IF EXISTS river_job_metadata_index;

-- What is fetched and what is scheduled: a row that is running or has ended is
-- not looked for by it any more.
DROP INDEX IF EXISTS river_job_prioritized_fetching_index;
CREATE INDEX river_job_prioritized_fetching_index ON river_job (state, queue, priority, scheduled_at, id)
    WHERE state IN ('available', 'retryable', 'scheduled');
