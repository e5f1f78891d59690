-- What no program of ours writes, and none could read: an infinite time would stop every
-- list that its row is part of. What there is becomes what it means: a pause until
-- infinity ends when somebody resumes it. The table that is read most is locked last.
UPDATE headgate.pauses
SET since = CASE WHEN isfinite(since) THEN since ELSE now() END,
    until = CASE WHEN until = 'infinity' THEN NULL WHEN until = '-infinity' THEN 'epoch' ELSE until END
WHERE NOT (isfinite(since) AND coalesce(isfinite(until), true));

UPDATE headgate.servers SET created_at = now() WHERE NOT isfinite(created_at);
UPDATE headgate.databases SET created_at = now() WHERE NOT isfinite(created_at);
UPDATE headgate.tenants SET created_at = now() WHERE NOT isfinite(created_at);

ALTER TABLE headgate.pauses ADD CONSTRAINT pauses_times_are_finite CHECK (isfinite(since) AND isfinite(until));
ALTER TABLE headgate.servers ADD CONSTRAINT servers_times_are_finite CHECK (isfinite(created_at));
ALTER TABLE headgate.databases ADD CONSTRAINT databases_times_are_finite CHECK (isfinite(created_at));
ALTER TABLE headgate.tenants ADD CONSTRAINT tenants_times_are_finite CHECK (isfinite(created_at));
