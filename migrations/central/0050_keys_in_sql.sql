-- An idempotency key is taken by one function, whoever enqueues: the Go client or
-- headgate.enqueue. Requests are compared as Postgres stores them, so that spaces, the
-- order of names and the notation of a number make no difference between the two.

-- How long a key is kept after its job has ended. It is jobs.IdempotencyRetention.
CREATE FUNCTION headgate.idempotency_retention() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '720 hours';

-- Whether the job of a UID is in the queue and has not ended. The queue is named with its
-- schema, because callers have search_paths of their own, and in a text, because a body that
-- Postgres keeps in parts would keep River from changing its table.
DO $do$
BEGIN
    EXECUTE format($create$
CREATE FUNCTION headgate.is_unfinished(p_uid uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM %I.river_job j WHERE j.state <> 'completed' AND headgate.has_uid(j.metadata, p_uid::text) AND j.finalized_at IS NULL)
$$ $create$, (SELECT q.schema FROM headgate.queue q));
END $do$;

-- A hash of one named value of a request. The scope and the key are in it, so that equal
-- values under two keys do not look alike. Lengths stand before the parts, so that no two
-- lists of parts run together the same.
CREATE FUNCTION headgate.request_hash(p_scope uuid, p_key text, p_name text, p_value text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(p_scope::text || octet_length(p_key) || ':' || p_key || octet_length(p_name) || ':' || p_name || p_value, 'UTF8'));

-- Takes a key for a job, in the caller's transaction. job_uid is the job that has the key
-- now: p_uid if the key was free, else that of the request before, and differs then names
-- the first field in which the two requests differ: 'kind', 'args.NAME', or '' if they are
-- equal. Another transaction that is taking the key is waited for. A key that is taken stays
-- locked until this transaction ends, so that nobody deletes it before its answer is given;
-- one past its time changes hands, unless its job has not ended. The fields are not kept of
-- a request that has more than 64.
CREATE FUNCTION headgate.take_key(p_scope uuid, p_key text, p_kind text, p_args jsonb, p_uid uuid, OUT job_uid uuid, OUT differs text)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_hash   bytea := headgate.request_hash(p_scope, p_key, p_kind, p_args::text);
    v_fields jsonb := (SELECT CASE WHEN count(*) BETWEEN 1 AND 64 THEN jsonb_object_agg(e.key, left(encode(headgate.request_hash(p_scope, p_key, e.key, e.value::text), 'hex'), 16)) ELSE '{}' END
                       FROM jsonb_each(p_args) e);
    v_owner  headgate.idempotency_keys;
BEGIN
    INSERT INTO headgate.idempotency_keys AS k (scope, key, kind, args_hash, fields, job_uid)
    VALUES (p_scope, p_key, p_kind, v_hash, v_fields, p_uid)
    ON CONFLICT (scope, key) DO UPDATE
    SET kind = excluded.kind, args_hash = excluded.args_hash, fields = excluded.fields, job_uid = excluded.job_uid, created_at = now()
    WHERE k.created_at < now() - headgate.idempotency_retention() AND NOT headgate.is_unfinished(k.job_uid)
    RETURNING k.* INTO v_owner;
    IF NOT FOUND THEN
        SELECT k.* INTO STRICT v_owner FROM headgate.idempotency_keys k WHERE k.scope = p_scope AND k.key = p_key;
    END IF;
    job_uid := v_owner.job_uid;
    differs := CASE
        WHEN v_owner.kind <> p_kind THEN 'kind'
        WHEN v_owner.args_hash = v_hash THEN ''
        ELSE coalesce((
            SELECT 'args.' || name
            FROM jsonb_each_text(v_fields) a (name, hash) FULL JOIN jsonb_each_text(v_owner.fields) b (name, hash) USING (name)
            WHERE a.hash IS DISTINCT FROM b.hash ORDER BY name COLLATE "C" LIMIT 1), 'args')
    END;
END $$;
