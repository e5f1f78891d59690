-- Finds a queued job by the UID that its enqueuer was given. UIDs rise with
-- time, so the index grows at its right edge.
CREATE INDEX river_job_headgate_uid ON river_job ((metadata->>'job_uid')) WHERE metadata ? 'job_uid';
