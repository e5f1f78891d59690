-- concurrently
-- A job that somebody wants cancelled and that has not ended: it runs, or waits for
-- its tenant's ledger to say what its last attempt has come to. There are never many.

CREATE INDEX CONCURRENTLY IF NOT EXISTS river_job_headgate_cancelling ON river_job (id) WHERE finalized_at IS NULL AND metadata ? 'cancel_attempted_at';
