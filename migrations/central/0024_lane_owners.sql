-- What the catalog, the limits and the pauses say of the owner of a lane, a tenant or a
-- database: one rule, which claims apply to lanes that wake, and by which the sweep
-- finds lanes that have another copy of it.
CREATE VIEW headgate.lane_owners AS
SELECT t.id, d.server_id, d.id AS database_id,
       CASE WHEN t.status <> 'active' THEN t.status WHEN p.scope IS NOT NULL THEN 'paused' ELSE '' END AS held,
       CASE WHEN t.status = 'active' THEN p.until END AS held_until,
       coalesce(tl.weight, pl.weight, 1) AS weight,
       coalesce(tl.max_running, pl.max_running) AS max_running,
       coalesce(tl.rate, pl.rate) AS rate,
       CASE WHEN tl.rate IS NOT NULL THEN tl.rate_period ELSE pl.rate_period END AS rate_period
FROM headgate.tenants t
LEFT JOIN headgate.databases d ON d.id = t.database_id
LEFT JOIN headgate.plan_limits pl ON pl.plan = t.plan
LEFT JOIN headgate.tenant_limits tl ON tl.tenant_id = t.id
LEFT JOIN headgate.pauses p ON p.scope = 'tenant' AND p.target = t.id::text AND coalesce(p.until > now(), true)
UNION ALL
SELECT d.id, d.server_id, d.id, '', NULL, 1, NULL, NULL, NULL
FROM headgate.databases d;
