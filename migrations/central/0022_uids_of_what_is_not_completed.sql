-- A job that has succeeded is found by its UID through the history, which knows its
-- number, so the index of UIDs leaves it out: an entry for each completed row was a
-- tenth of what a short job costs the database. A program from before looks a UID up
-- by the whole table, as long as it runs.

DROP INDEX river_job_headgate_uid;
CREATE INDEX river_job_headgate_uid ON river_job ((metadata->>'job_uid')) WHERE state <> 'completed' AND metadata ? 'job_uid';
