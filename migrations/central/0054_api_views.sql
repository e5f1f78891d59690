-- What may be read by programs that only look: dashboards, reports, alerts. Columns are
-- added here, and not renamed or taken away. No view has a sealed address or the arguments
-- of a job. The views read as their owner.
CREATE SCHEMA headgate_api;

CREATE VIEW headgate_api.servers AS
SELECT s.id, s.name, s.state, s.transport, s.pooler, s.connection_budget, s.created_at FROM headgate.servers s;

CREATE VIEW headgate_api.databases AS
SELECT d.id, d.name, s.name AS server, d.dbname, d.kind, d.created_at FROM headgate.databases d JOIN headgate.servers s ON s.id = d.server_id;

CREATE VIEW headgate_api.tenants AS
SELECT t.id, t.slug, t.org_id, coalesce(t.org_key, t.org_id::text) AS org_key, t.name, t.plan, t.status, t.timezone, t.labels, d.name AS database, t.generation, t.created_at
FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id;

-- The jobs whose rows are in the queue. A migration of River's that changes the type of one
-- of these columns needs the view dropped before.
CREATE VIEW headgate_api.jobs AS
SELECT headgate.job_uid(j.metadata, j.id, j.created_at) AS uid, j.kind, headgate.uuid_or_null(j.metadata->>'tenant') AS tenant_id,
       headgate.uuid_or_null(j.metadata->>'database') AS database_id, j.queue, j.priority,
       CASE WHEN j.finalized_at IS NULL AND (j.metadata ? 'cancel_request' OR j.metadata ? 'cancel_attempted_at') THEN 'cancelling'
            ELSE CASE j.state WHEN 'available' THEN 'waiting' WHEN 'retryable' THEN 'failed' WHEN 'completed' THEN 'succeeded' WHEN 'pending' THEN 'unconfirmed' ELSE j.state::text END
       END AS state,
       j.attempt, j.max_attempts, j.metadata->>'schedule' AS schedule, j.created_at, j.scheduled_at, j.attempted_at, j.finalized_at
FROM river_job j;

-- The ended attempts.
CREATE VIEW headgate_api.outcomes AS
SELECT o.id, o.job_uid, o.tenant_id, o.database_id, o.kind, o.attempt, o.state, o.class, o.sqlstate, o.message, o.recovered,
       o.started_at, o.ended_at, o.rows, o.output, o.schedule, o.worker
FROM headgate.outcomes o;

CREATE VIEW headgate_api.schedules AS
SELECT s.id, s.name, s.tenant_id, s.database_id, f.name AS template, s.kind, s.queue, s.priority, s.max_attempts, s.cron, s.zone,
       s.next_run_at, s.next_nominal_at, s.last_run_at, s.last_job_uid, s.paused, s.paused_by, s.paused_note, s.paused_until, s.error, s.version, s.created_at
FROM headgate.schedules s LEFT JOIN headgate.fleets f ON f.id = s.fleet_id;

CREATE VIEW headgate_api.occurrences AS
SELECT o.schedule_id, o.nominal_at, o.last_at, o.count, o.origin, o.outcome, o.effective_at, o.decided_at, o.job_uid, o.note FROM headgate.occurrences o;

CREATE VIEW headgate_api.workers AS
SELECT w.incarnation, w.worker, w.host, w.pid, w.kinds, w.queues, w.started_at, w.beat_at, w.ended_at, w.reaped_at,
       CASE WHEN w.reaped_at IS NOT NULL THEN 'lost' WHEN w.ended_at IS NOT NULL THEN 'stopped'
            WHEN headgate.silent(w.beat_at, w.dead_after) THEN 'silent' WHEN w.draining THEN 'draining' ELSE 'alive' END AS state
FROM headgate.workers w;

CREATE VIEW headgate_api.pauses AS
SELECT p.scope, p.target, p.paused_by, p.note, p.since, p.until FROM headgate.active_pauses p;

CREATE VIEW headgate_api.limits AS
SELECT 'tenant' AS scope, l.tenant_id::text AS target, l.max_running, NULL::int AS max_per_tenant, l.weight, l.rate, l.rate_period FROM headgate.tenant_limits l
UNION ALL SELECT 'plan', l.plan, l.max_running, NULL, l.weight, l.rate, l.rate_period FROM headgate.plan_limits l
UNION ALL SELECT 'kind', l.kind, l.max_running, l.max_per_tenant, NULL, NULL, NULL FROM headgate.kind_limits l
UNION ALL SELECT 'queue', l.queue, l.max_running, NULL, NULL, NULL, NULL FROM headgate.queue_limits l;

CREATE VIEW headgate_api.kinds AS
SELECT k.kind, k.required, k.scope, k.login, k.queue, k.priority, k.max_attempts, k.published_at, k.alive_until FROM headgate.kinds k;
