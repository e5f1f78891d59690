-- What a role may call or write is bounded here, and not by the program that calls, because
-- whoever has the role's password may call as well.

-- Refuses a time for whose month or day no program makes a partition.
CREATE FUNCTION headgate.check_part_time(p_what text, p_at timestamptz) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_at IS NULL OR NOT isfinite(p_at) OR p_at NOT BETWEEN clock_timestamp() - interval '14 months' AND clock_timestamp() + interval '3 months' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('making a partition of headgate.%s for %s: the time lies outside of the last 14 and the next 3 months', p_what, coalesce(p_at::text, 'NULL')),
            HINT = 'Give a time between them. The janitor makes the coming partitions by itself.';
    END IF;
END $$;

-- Makes the partition of the month (of UTC) that a time lies in, and returns its name; NULL
-- if it is there, or another transaction has just made it. There is no default partition:
-- whoever writes the first row of a month that nobody has made makes it.
ALTER FUNCTION headgate.add_audit_month(timestamptz) RENAME TO add_audit_part;

CREATE FUNCTION headgate.add_audit_month(p_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.check_part_time('audit', p_at);
    RETURN headgate.add_audit_part(p_at);
END $$;

CREATE OR REPLACE FUNCTION headgate.add_outcomes_month(p_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.check_part_time('outcomes', p_at);
    RETURN headgate.add_part('outcomes', 'month', p_at);
END $$;

CREATE OR REPLACE FUNCTION headgate.add_job_logs_day(p_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.check_part_time('job_logs', p_at);
    RETURN headgate.add_part('job_logs', 'day', p_at);
END $$;

-- Drops the months that ended before a time and returns their names. The last 13 months stay,
-- whoever calls. retention.Config.KeepAudit allows no less.
CREATE OR REPLACE FUNCTION headgate.drop_audit_months(p_before timestamptz) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_before IS NULL OR p_before > clock_timestamp() - interval '13 months' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('dropping the months of headgate.audit that ended before %s: the last 13 months stay', coalesce(p_before::text, 'NULL')),
            HINT = 'Give a time that is 13 months past or more.';
    END IF;
    RETURN headgate.drop_parts('audit', 'month', p_before);
END $$;

-- Whether changes are an array of {field, before, after}, as readers of the audit expect.
CREATE FUNCTION headgate.are_changes(p_changes jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(p_changes) IS DISTINCT FROM 'array' THEN false
                ELSE NOT EXISTS (SELECT FROM jsonb_array_elements(p_changes) AS c (v)
                                 WHERE CASE WHEN jsonb_typeof(c.v) <> 'object' THEN true
                                            ELSE jsonb_typeof(c.v->'field') IS DISTINCT FROM 'string' OR NOT c.v ?& '{before,after}' OR c.v - '{field,before,after}'::text[] <> '{}' END) END
$$;

-- Records what somebody has done that changes no row of an audited table: which schedule was
-- triggered or backfilled. p_changes is as in headgate.audit.
CREATE OR REPLACE FUNCTION headgate.audit_event(p_object text, p_action text, p_key text, p_name text, p_tenant uuid, p_changes jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_wrong text;
BEGIN
    v_wrong := CASE
        WHEN p_object IS DISTINCT FROM 'schedule' THEN format('object %s: the only one is schedule', coalesce(left(p_object, 80), 'NULL'))
        WHEN p_action IS NULL OR p_action NOT IN ('trigger', 'backfill') THEN format('action %s: give trigger or backfill', coalesce(left(p_action, 80), 'NULL'))
        WHEN headgate.uuid_or_null(p_key) IS NULL THEN format('key %s: give the UUID of the schedule', coalesce(left(p_key, 80), 'NULL'))
        WHEN p_name IS NULL OR length(p_name) > 500 THEN 'name: give at most 500 characters'
        WHEN NOT headgate.are_changes(p_changes) THEN 'changes: give an array of objects with field, a text, before and after'
        WHEN length(p_changes::text) > 10000 THEN 'changes: give at most 10000 characters'
    END;
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'recording an event in headgate.audit: ' || v_wrong,
            HINT = 'Changes of rows are recorded by triggers.';
    END IF;
    INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
    SELECT a.*, p_object, p_action, p_key, p_name, p_tenant, p_changes FROM headgate.audit_actor() AS a;
END $$;

-- A tenant that was removed stays it, with its organisation: its rows in a shared database
-- are marked with org_id or org_key, and an erasure deletes what bears them. With another's
-- it would delete the other's rows. Unique indexes keep both from everybody else, as long as
-- the removed row has them. OLD is the row as the lock has it, so no other writer comes between.
CREATE FUNCTION headgate.removed_tenant_stays() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'removed_tenants_stay', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA,
        MESSAGE = format('tenant %s was removed: its status, org_id and org_key stay, and its database changes to none only', OLD.id),
        HINT = 'Add a new tenant with an org_id and org_key that no other has had.';
END $$;

CREATE TRIGGER removed_tenant_stays BEFORE UPDATE ON headgate.tenants FOR EACH ROW
    WHEN (OLD.status = 'removed' AND (NEW.status <> 'removed' OR NEW.id <> OLD.id OR NEW.org_id <> OLD.org_id OR NEW.org_key IS DISTINCT FROM OLD.org_key
                                      OR NEW.database_id IS NOT NULL AND NEW.database_id IS DISTINCT FROM OLD.database_id))
    EXECUTE FUNCTION headgate.removed_tenant_stays();

-- An erasure is of a removed tenant. That cannot change afterwards, so the look needs no lock.
CREATE FUNCTION headgate.check_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.id = NEW.tenant_id AND t.status = 'removed') THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'erasures_of_removed_tenants', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA,
            MESSAGE = format('tenant %s was not removed, and only what was removed is erased', NEW.tenant_id),
            HINT = 'headgate tenant remove removes a tenant.';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER check_erasure BEFORE INSERT OR UPDATE OF tenant_id ON headgate.erasures FOR EACH ROW EXECUTE FUNCTION headgate.check_erasure();
