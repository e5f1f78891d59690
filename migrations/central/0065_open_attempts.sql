-- concurrently
-- The jobs of an owner of which an attempt may have had its effect, and whose ledger has not
-- been asked yet. There are never many.

CREATE INDEX CONCURRENTLY IF NOT EXISTS river_job_headgate_open ON river_job (headgate.lane(metadata)) WHERE finalized_at IS NULL AND metadata ? 'open_since';
