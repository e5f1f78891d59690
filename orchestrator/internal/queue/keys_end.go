package queue

// RenewKeysSQL keeps the keys of jobs that have not ended, which may lie years ahead or
// wait behind a pause: each of them is looked at once in a retention.
const RenewKeysSQL = `
UPDATE headgate.idempotency_keys SET created_at = now() WHERE (scope, key) IN (
    SELECT scope, key FROM headgate.idempotency_keys k WHERE created_at < now() - $1::interval AND headgate.is_unfinished(k.job_uid)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`

// DeleteKeysSQL ends the keys past their time of jobs that have ended. $1 is the
// retention, $2 how many at most.
const DeleteKeysSQL = `
DELETE FROM headgate.idempotency_keys WHERE (scope, key) IN (
    SELECT scope, key FROM headgate.idempotency_keys k WHERE created_at < now() - $1::interval AND NOT headgate.is_unfinished(k.job_uid)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
