package queue

// unfinishedOfKey finds the job of a key k that has not ended, by the index of UIDs.
const unfinishedOfKey = `EXISTS (
        SELECT FROM river_job j
        WHERE j.state <> 'completed' AND headgate.has_uid(j.metadata, k.job_uid::text) AND j.finalized_at IS NULL)`

// RenewKeysSQL keeps the keys of jobs that have not ended, which may lie years ahead or
// wait behind a pause: each of them is looked at once in a retention.
const RenewKeysSQL = `
UPDATE headgate.idempotency_keys SET created_at = now() WHERE (scope, key) IN (
    SELECT scope, key FROM headgate.idempotency_keys k WHERE created_at < now() - $1::interval AND ` + unfinishedOfKey + `
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`

// DeleteKeysSQL ends the keys past their time of jobs that have ended. $1 is the
// retention, $2 how many at most.
const DeleteKeysSQL = `
DELETE FROM headgate.idempotency_keys WHERE (scope, key) IN (
    SELECT scope, key FROM headgate.idempotency_keys k WHERE created_at < now() - $1::interval AND NOT ` + unfinishedOfKey + `
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
