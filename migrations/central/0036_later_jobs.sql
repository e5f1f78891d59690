-- concurrently
-- The jobs of one owner that wait for a time: put off, held, or to be tried again.

CREATE INDEX CONCURRENTLY IF NOT EXISTS river_job_headgate_later ON river_job (headgate.lane(metadata), scheduled_at, id) WHERE state IN ('scheduled', 'retryable');
