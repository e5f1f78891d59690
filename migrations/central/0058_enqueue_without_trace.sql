-- A job that is enqueued by SQL has no trace of its producer's, so its row names none: the
-- worker's own sampler decides. The function is otherwise that of 0051.
CREATE OR REPLACE FUNCTION headgate.enqueue(kind text, tenant text, args jsonb DEFAULT '{}', run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    p_kind    text := enqueue.kind;
    p_tenant  text := enqueue.tenant;
    p_args    jsonb := enqueue.args;
    p_run_at  timestamptz := enqueue.run_at;
    p_key     text := enqueue.idempotency_key;
    v_said    text := headgate.quoted(enqueue.kind);
    v_known   record;
    v_selectors jsonb[];
    v_tenant  headgate.tenants;
    v_queue   text;
    v_missing text;
    v_uid     uuid := headgate.new_uid();
    v_taken   record;
BEGIN
    IF p_kind IS NULL OR p_kind !~ '^[a-zA-Z0-9_][a-zA-Z0-9_\-\[\]<>/.·:+]{1,126}$' THEN
        PERFORM headgate.refuse('HG100', 'kind', format('kind %s: a kind''s name is 2 to 127 of the letters a to z and A to Z, digits, and _ - . : / + < > [ ] ·, beginning with a letter, a digit or _', v_said),
            'Give the name that the worker''s program registers.');
    END IF;
    SELECT k.* INTO v_known FROM headgate.known_kind(p_kind) k;
    v_selectors := CASE WHEN starts_with(p_kind, 'headgate.tombstone') THEN '{}' ELSE ARRAY(SELECT headgate.granted_tenants(session_user, p_kind, coalesce(v_known.owner, false))) END;
    IF cardinality(v_selectors) = 0 THEN
        PERFORM headgate.refuse('HG103', 'kind', format('kind %s: login %s may not enqueue it', v_said, quote_ident(session_user)),
            CASE WHEN starts_with(p_kind, 'headgate.tombstone') THEN 'Headgate alone enqueues it.'
                 WHEN p_kind IN ('headgate.analyze', 'headgate.vacuum') THEN 'It works on a whole database: headgate job enqueue KIND --database NAME enqueues it.'
                 ELSE format('An operator allows it: headgate enqueue-grant add %s %s --tenant SLUG', quote_ident(session_user), p_kind) END);
    END IF;
    IF NOT v_known.known THEN
        PERFORM headgate.refuse('HG104', 'kind', format('kind %s: no worker has published it', v_said),
            'See that the name is right, and start a worker whose program registers the kind; its kinds are known once it has started.');
    ELSIF v_known.scope = 'database' THEN
        PERFORM headgate.refuse('HG107', 'kind', format('kind %s: it works on a whole database, and headgate.enqueue is for tenants', v_said),
            'headgate job enqueue KIND --database NAME enqueues it.');
    END IF;

    SELECT t.* INTO v_tenant FROM headgate.tenants t
    WHERE CASE WHEN p_tenant ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN t.id = headgate.uuid_or_null(lower(p_tenant))
               WHEN p_tenant ~ '^[1-9][0-9]{0,17}$' THEN t.org_id = p_tenant::bigint
               ELSE t.slug = p_tenant END;
    IF v_tenant.id IS NULL AND '[]' = ANY (v_selectors) THEN
        PERFORM headgate.refuse('HG101', 'tenant', format('tenant %s: no tenant has this slug, UUID or org_id', headgate.quoted(p_tenant)), 'headgate tenant list shows the tenants.');
    ELSIF v_tenant.id IS NULL OR NOT EXISTS (
        SELECT FROM unnest(v_selectors) s (terms) WHERE NOT EXISTS (
            SELECT FROM jsonb_to_recordset(s.terms) AS f (field text, key text, value text)
            WHERE f.value IS DISTINCT FROM headgate.tenant_field(v_tenant, f.field, coalesce(f.key, '')))) THEN
        PERFORM headgate.refuse('HG103', 'tenant', format('tenant %s: login %s may not enqueue kind %s for it', headgate.quoted(p_tenant), quote_ident(session_user), v_said),
            format('headgate enqueue-grant list --role %s shows what is allowed.', quote_ident(session_user)));
    ELSIF v_tenant.status NOT IN ('active', 'moving') THEN
        PERFORM headgate.refuse('HG102', 'tenant', format('tenant %s is %s and takes no work', headgate.quoted(v_tenant.slug), v_tenant.status), 'headgate tenant list shows its status.');
    END IF;

    v_queue := coalesce(enqueue.queue, v_known.queue);
    PERFORM headgate.check_job(p_args, v_queue, enqueue.priority, p_run_at, p_key);
    SELECT r.name INTO v_missing FROM unnest(v_known.required) r (name) WHERE NOT p_args ? r.name LIMIT 1;
    IF FOUND THEN
        PERFORM headgate.refuse('HG105', 'args', format('args of kind %s lack %s', v_said, headgate.quoted(v_missing)),
            format('Every worker that has the kind requires: %s.', array_to_string(v_known.required, ', ')));
    END IF;
    IF p_run_at < clock_timestamp() - interval '1 minute'
       AND NOT EXISTS (SELECT FROM headgate.idempotency_keys k WHERE k.scope = v_tenant.id AND k.key = p_key) THEN
        PERFORM headgate.refuse('HG100', 'run_at', format('run_at %s: it is past', headgate.quoted(p_run_at::text)), 'Leave run_at out to run now.');
    END IF;

    IF p_key IS NOT NULL THEN
        SELECT k.* INTO v_taken FROM headgate.take_key(v_tenant.id, p_key, p_kind, p_args, v_uid) k;
        IF v_taken.differs <> '' THEN
            PERFORM headgate.refuse('HG106', 'idempotency_key', format('idempotency_key %s was used for another request, job %s: the %s differ', headgate.quoted(p_key), v_taken.job_uid, v_taken.differs),
                'Give the same request again, or another key.');
        ELSIF v_taken.job_uid <> v_uid THEN
            RETURN v_taken.job_uid;
        END IF;
    END IF;
    PERFORM headgate.insert_job(p_kind, p_args, jsonb_build_object('job_uid', v_uid, 'tenant', v_tenant.id),
        v_queue, coalesce(enqueue.priority, v_known.priority)::smallint, v_known.max_attempts, p_run_at);
    IF p_run_at IS NULL THEN
        PERFORM headgate.notify_queues(ARRAY[v_queue]);
    END IF;
    RETURN v_uid;
END $$;
