-- A door for programs in any language: headgate.enqueue writes a job as the Go client does,
-- and needs no right on any table.

-- What worker programs say of their kinds. A row is one form of a kind: two versions of a
-- program may be at work at once. Workers renew alive_until with their heartbeats, and the
-- janitor deletes what no worker has had for 30 days.
CREATE TABLE headgate.kinds (
    kind         text NOT NULL,
    form         text NOT NULL,                  -- a digest of what stands below
    required     text[] NOT NULL,                -- the top-level arguments that the Go client always writes
    scope        text NOT NULL CHECK (scope IN ('tenant', 'database')),
    login        text NOT NULL CHECK (login IN ('job', 'owner')),
    queue        text NOT NULL,
    priority     smallint NOT NULL,
    max_attempts smallint NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    alive_until  timestamptz NOT NULL,           -- a worker that has this form lives, as far as others can know
    PRIMARY KEY (kind, form)
) WITH (fillfactor = 50);

-- Who may enqueue what for whom through headgate.enqueue. tenants is a selector, an array
-- of {field, key, value}; the empty one selects all tenants.
CREATE TABLE headgate.enqueue_grants (
    role       text NOT NULL CHECK (role <> ''),
    kind       text NOT NULL CHECK (kind <> ''), -- a kind, or the beginning of kinds and *
    tenants    jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(tenants) = 'array' AND octet_length(tenants::text) <= 2000),
    granted_by text NOT NULL DEFAULT '',
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (role, kind, tenants)
);

CREATE INDEX enqueue_grants_kind ON headgate.enqueue_grants (kind);

-- The selectors of the grants that cover a kind and that a session may use: those of its
-- login, and of roles whose rights the login has without SET ROLE. A grant for a beginning
-- covers neither the built-in kinds, unless it begins with headgate. itself, nor kinds that
-- work as a database's owner: those are named in full.
CREATE FUNCTION headgate.granted_tenants(p_login name, p_kind text, p_owner boolean) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT g.tenants
    FROM headgate.enqueue_grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE (g.kind = p_kind
           OR NOT p_owner AND g.kind = ANY (ARRAY(SELECT left(p_kind, n) || '*' FROM generate_series(CASE WHEN starts_with(p_kind, 'headgate.') THEN 9 ELSE 0 END, length(p_kind)) n)))
      AND pg_has_role(p_login, r.oid, 'USAGE');
END $$;

-- What is known of a kind: of its newest form that a worker has, else of the last that one
-- had. An argument is required if every form that a worker has requires it, so that no
-- publication of a program that is gone refuses anything.
CREATE FUNCTION headgate.known_kind(p_kind text, OUT known boolean, OUT required text[], OUT scope text, OUT owner boolean, OUT queue text, OUT priority smallint, OUT max_attempts smallint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_kind headgate.kinds;
BEGIN
    SELECT k.* INTO v_kind FROM headgate.kinds k WHERE k.kind = p_kind
    ORDER BY k.alive_until > now() DESC, CASE WHEN k.alive_until > now() THEN k.published_at ELSE k.alive_until END DESC, k.published_at DESC LIMIT 1;
    known := FOUND;
    scope := v_kind.scope;
    queue := v_kind.queue;
    priority := v_kind.priority;
    max_attempts := v_kind.max_attempts;
    SELECT coalesce(bool_or(k.login = 'owner'), v_kind.login = 'owner') INTO owner FROM headgate.kinds k WHERE k.kind = p_kind AND k.alive_until > now();
    required := ARRAY(
        SELECT r.name FROM headgate.kinds k CROSS JOIN LATERAL unnest(k.required) r (name)
        WHERE k.kind = p_kind AND k.alive_until > now()
        GROUP BY r.name HAVING count(*) = (SELECT count(*) FROM headgate.kinds a WHERE a.kind = p_kind AND a.alive_until > now())
        ORDER BY r.name COLLATE "C");
END $$;

-- A UUID of version 7, of this moment.
CREATE FUNCTION headgate.new_uid() RETURNS uuid
LANGUAGE sql VOLATILE
RETURN encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid;

-- Inserts a row as the Go client does. As in 0045, the queue is named in a text.
DO $do$
BEGIN
    EXECUTE format($create$
CREATE FUNCTION headgate.insert_job(p_kind text, p_args jsonb, p_metadata jsonb, p_queue text, p_priority smallint, p_max_attempts smallint, p_run_at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO %1$I.river_job (args, kind, max_attempts, metadata, priority, queue, scheduled_at, state, tags)
    VALUES (p_args, p_kind, p_max_attempts, p_metadata, p_priority, p_queue, coalesce(p_run_at, now()),
            CASE WHEN p_run_at IS NULL THEN 'available' ELSE 'scheduled' END::%1$I.river_job_state, '{}');
END $$ $create$, (SELECT q.schema FROM headgate.queue q));
END $do$;

-- Refuses a value, in one sentence: the field, the value, what is allowed. COLUMN is the
-- field too.
CREATE FUNCTION headgate.refuse(p_state text, p_field text, p_says text, p_hint text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = p_state, MESSAGE = 'headgate.enqueue: ' || p_says, HINT = p_hint, COLUMN = p_field;
END $$;

-- A value as an error repeats it.
CREATE FUNCTION headgate.quoted(p_value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_value IS NULL THEN 'NULL' ELSE to_json(left(p_value, 80))::text || CASE WHEN length(p_value) > 80 THEN '…' ELSE '' END END;

-- What the Go client refuses of a job's values (jobs.CheckKind, jobs.CheckQueue, queue.Draft.Check).
CREATE FUNCTION headgate.check_job(p_args jsonb, p_queue text, p_priority int, p_run_at timestamptz, p_key text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_size int := octet_length(p_args::text);
BEGIN
    IF p_args IS NULL OR jsonb_typeof(p_args) <> 'object' THEN
        PERFORM headgate.refuse('HG100', 'args', format('args are %s: they must be a JSON object', CASE WHEN p_args IS NULL THEN 'NULL' ELSE 'of type ' || jsonb_typeof(p_args) END),
            'Give an object, as in ''{"member": "Ines"}''; leave args out for {}.');
    ELSIF v_size > 262144 THEN
        PERFORM headgate.refuse('HG100', 'args', format('args are %s bytes of JSON, as Postgres writes them: at most 262144', v_size), 'Keep the document elsewhere and pass its name.');
    ELSIF v_size > 1000 AND EXISTS (SELECT FROM jsonb_path_query(p_args, 'strict $.** ? (@.type() == "number")') n WHERE length(n::text) > 1000) THEN
        PERFORM headgate.refuse('HG100', 'args', 'args hold a number of more than 1000 digits', 'Pass it as text.');
    END IF;
    IF v_size > 200 AND EXISTS (SELECT FROM jsonb_path_query(p_args, 'strict $.**{100 to last} ? (@.type() == "object" || @.type() == "array")')) THEN
        PERFORM headgate.refuse('HG100', 'args', 'args have more than 100 arrays and objects one in another', 'Make them flatter, or pass the document as text.');
    END IF;
    IF octet_length(p_queue) > 64 OR p_queue !~ '^[a-z0-9]+([_-][a-z0-9]+)*$' THEN
        PERFORM headgate.refuse('HG100', 'queue', format('queue %s: a queue''s name is 1 to 64 lower-case letters and digits, and single dashes or underscores between them', headgate.quoted(p_queue)),
            'Leave queue out for the kind''s own.');
    END IF;
    IF p_priority NOT BETWEEN 1 AND 4 THEN
        PERFORM headgate.refuse('HG100', 'priority', format('priority %s: give 1 (first) to 4', p_priority), 'Leave priority out for the kind''s own.');
    END IF;
    IF NOT isfinite(p_run_at) OR p_run_at > clock_timestamp() + interval '3650 days' OR p_run_at < timestamptz '2000-01-01 00:00:00+00' THEN
        PERFORM headgate.refuse('HG100', 'run_at', format('run_at %s: give a time within the next ten years', headgate.quoted(p_run_at::text)), 'Leave run_at out to run now.');
    END IF;
    IF p_key = '' OR length(p_key) > 200 THEN
        PERFORM headgate.refuse('HG100', 'idempotency_key', format('idempotency_key has %s characters: give 1 to 200', length(p_key)), 'Leave idempotency_key out where a repeated call may make a second job.');
    ELSIF p_key ~ '[\u0001-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufeff\ufff9-\ufffb]' THEN
        PERFORM headgate.refuse('HG100', 'idempotency_key', format('idempotency_key %s: only printable characters are allowed', headgate.quoted(p_key)), 'Take the other characters out.');
    END IF;
END $$;

-- Enqueues one job for a tenant (its slug, UUID or org_id), in the caller's transaction, and
-- returns the job's UID; see docs/enqueue-from-sql.md. NULL for queue, priority, run_at and
-- idempotency_key is the kind's own, the kind's own, now, and none. A repeated request
-- under one key returns the first job's UID.
CREATE FUNCTION headgate.enqueue(kind text, tenant text, args jsonb DEFAULT '{}', run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, idempotency_key text DEFAULT NULL)
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
    PERFORM headgate.insert_job(p_kind, p_args, jsonb_build_object('job_uid', v_uid, 'tenant', v_tenant.id,
        'traceparent', '00-' || replace(gen_random_uuid()::text, '-', '') || '-' || substr(replace(gen_random_uuid()::text, '-', ''), 17) || '-01'),
        v_queue, coalesce(enqueue.priority, v_known.priority)::smallint, v_known.max_attempts, p_run_at);
    IF p_run_at IS NULL THEN
        PERFORM headgate.notify_queues(ARRAY[v_queue]);
    END IF;
    RETURN v_uid;
END $$;
