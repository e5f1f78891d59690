-- Kinds and schedules that a tenant may not have: its plan, or its own list, does not name
-- the kind, or a feature that the kind or the schedule needs is not true for it. Requests are
-- refused, jobs that wait already are held, and occurrences are answered feature_off.

-- The kinds that these values of features withhold, each with the feature that is missing.
CREATE FUNCTION headgate.withheld_kinds(p_gates jsonb, p_values jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_object_agg(g.pair->>0, g.pair->>1), '{}') FROM jsonb_array_elements(p_gates) g (pair)
        WHERE p_values->(g.pair->>1) IS DISTINCT FROM 'true');

-- Why a tenant may not have jobs of a kind, or a schedule ('' for none) of the kind: no row,
-- or one. Statements take it up as a part of theirs. Of a kind that nothing needs it costs
-- a look at the tenant, its plan and an empty place of an index.
CREATE FUNCTION headgate.kind_refusal(p_tenant uuid, p_kind text, p_schedule text) RETURNS TABLE (why text, name text, says text)
LANGUAGE sql STABLE AS $$
    SELECT r.why, r.name, r.says
    FROM (
        SELECT 'kinds' AS why, p.name,
               CASE WHEN t.kinds IS NOT NULL THEN 'kind ' || p_kind || ' is not among the tenant''s own kinds'
                    WHEN p.name = '' THEN 'kind ' || p_kind || ' is not among the kinds of tenants without a plan'
                    ELSE 'plan ' || p.name || ' does not have kind ' || p_kind END AS says
        FROM headgate.tenants t JOIN headgate.plans p ON p.name = t.plan
        WHERE t.id = p_tenant AND p_kind <> ALL (coalesce(t.kinds, p.kinds))
        UNION ALL
        SELECT 'feature', g.feature,
               CASE WHEN g.kind <> '' THEN 'kind ' || p_kind ELSE 'schedule ' || p_schedule END || ' needs feature ' || g.feature || ', which the tenant does not have'
        FROM headgate.feature_gates g
        JOIN headgate.features f ON f.name = g.feature
        JOIN headgate.tenants t ON t.id = p_tenant
        JOIN headgate.plans p ON p.name = t.plan
        WHERE (g.kind <> '' AND g.kind = p_kind OR g.schedule <> '' AND g.schedule = p_schedule)
          AND coalesce(t.features->g.feature, p.features->g.feature, f.default_value) IS DISTINCT FROM 'true'
    ) r
    ORDER BY r.why DESC, r.name
    LIMIT 1
$$;

-- What claims go by in a lane: what lane_owners says of its owner, and whether the owner may
-- have the kind.
CREATE FUNCTION headgate.lane_owner(p_id uuid, p_kind text)
RETURNS TABLE (id uuid, server_id uuid, database_id uuid, held text, held_until timestamptz, weight double precision, max_running int, rate int, rate_period interval)
LANGUAGE sql STABLE AS $$
    SELECT o.id, o.server_id, o.database_id,
           CASE WHEN o.held <> '' THEN o.held ELSE coalesce((SELECT r.why FROM headgate.kind_refusal(o.id, p_kind, '') r), '') END,
           o.held_until, o.weight, o.max_running, o.rate, o.rate_period
    FROM headgate.lane_owners o WHERE o.id = p_id
$$;

-- Lanes are woken that have, or held, work of a kind that may be another's matter now. A
-- claim then asks kind_refusal again. A lane without work is asked about when it gets some.
CREATE FUNCTION headgate.wake_kinds(p_kinds text[]) RETURNS void LANGUAGE sql AS $$
    WITH woken AS (
        INSERT INTO headgate.wakeups (queue, lane, kind)
        SELECT l.queue, l.lane, l.kind FROM headgate.lanes l WHERE l.kind = ANY (p_kinds) AND (l.active OR l.held <> '') RETURNING queue
    )
    SELECT headgate.notify_queues(array_agg(queue)) FROM woken
$$;

CREATE FUNCTION headgate.gates_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'features' THEN
        PERFORM headgate.wake_kinds(ARRAY(SELECT g.kind FROM headgate.feature_gates g WHERE g.feature = NEW.name AND g.kind <> ''));
    ELSE
        PERFORM headgate.wake_kinds(ARRAY[coalesce(NEW.kind, OLD.kind), coalesce(OLD.kind, NEW.kind)]);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER lanes_default AFTER UPDATE ON headgate.features FOR EACH ROW
    WHEN (OLD.default_value IS DISTINCT FROM NEW.default_value) EXECUTE FUNCTION headgate.gates_changed();
CREATE TRIGGER lanes_gate AFTER INSERT OR UPDATE OR DELETE ON headgate.feature_gates FOR EACH ROW EXECUTE FUNCTION headgate.gates_changed();

-- One statement for all tenants that a statement changes.
CREATE FUNCTION headgate.refusals_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_queues text[];
BEGIN
    IF TG_TABLE_NAME = 'tenants' THEN
        WITH changed AS (
            SELECT n.id::text AS lane, n.kinds IS DISTINCT FROM o.kinds AS kinds
            FROM fresh_rows n JOIN old_rows o ON o.id = n.id WHERE n.kinds IS DISTINCT FROM o.kinds OR n.features <> o.features
        ), woken AS (
            INSERT INTO headgate.wakeups (queue, lane, kind)
            SELECT l.queue, l.lane, l.kind FROM changed c JOIN headgate.lanes l ON l.lane = c.lane
            WHERE (l.active OR l.held <> '') AND (c.kinds OR EXISTS (SELECT FROM headgate.feature_gates g WHERE g.kind <> '' AND g.kind = l.kind))
            RETURNING queue
        )
        SELECT array_agg(DISTINCT queue) INTO v_queues FROM woken;
    ELSE
        WITH changed AS (
            SELECT t.id::text AS lane, n.kinds IS DISTINCT FROM o.kinds AS kinds
            FROM fresh_rows n JOIN old_rows o ON o.name = n.name JOIN headgate.tenants t ON t.plan = n.name
            WHERE n.kinds IS DISTINCT FROM o.kinds OR n.features <> o.features
        ), woken AS (
            INSERT INTO headgate.wakeups (queue, lane, kind)
            SELECT l.queue, l.lane, l.kind FROM changed c JOIN headgate.lanes l ON l.lane = c.lane
            WHERE (l.active OR l.held <> '') AND (c.kinds OR EXISTS (SELECT FROM headgate.feature_gates g WHERE g.kind <> '' AND g.kind = l.kind))
            RETURNING queue
        )
        SELECT array_agg(DISTINCT queue) INTO v_queues FROM woken;
    END IF;
    IF v_queues IS NOT NULL THEN
        PERFORM headgate.notify_queues(v_queues);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER lanes_refused AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.refusals_changed();
CREATE TRIGGER lanes_refused AFTER UPDATE ON headgate.plans REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.refusals_changed();

ALTER TABLE headgate.occurrences DROP CONSTRAINT occurrences_outcome_check;
ALTER TABLE headgate.occurrences ADD CONSTRAINT occurrences_outcome_check CHECK (outcome IN (
    'fired', 'skipped_overlap', 'skipped_paused', 'skipped_dst', 'skipped_excluded', 'missed_window', 'coalesced', 'suspended', 'feature_off', 'failed_to_enqueue', 'superseded')) NOT VALID;
ALTER TABLE headgate.occurrences VALIDATE CONSTRAINT occurrences_outcome_check;

-- Refuses a kind that the tenant may not have, for headgate.enqueue.
CREATE FUNCTION headgate.refuse_kind(p_tenant uuid, p_slug text, p_kind text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_why  text;
    v_says text;
BEGIN
    SELECT r.why, r.says INTO v_why, v_says FROM headgate.kind_refusal(p_tenant, p_kind, '') r;
    IF FOUND THEN
        PERFORM headgate.refuse(CASE v_why WHEN 'feature' THEN 'HG108' ELSE 'HG109' END, 'kind', format('tenant %s: %s', headgate.quoted(p_slug), v_says),
            CASE v_why WHEN 'feature' THEN 'An operator gives the tenant, or its plan, the feature.' ELSE 'An operator gives the tenant, or its plan, the kind.' END);
    END IF;
END $$;
