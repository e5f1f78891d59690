-- concurrently
-- The job of a trigger has a UID made from its request, so a request that is repeated
-- is found by that UID. Triggers are few among the occurrences.

CREATE INDEX CONCURRENTLY IF NOT EXISTS occurrences_triggers ON headgate.occurrences (job_uid) WHERE origin = 'trigger';
