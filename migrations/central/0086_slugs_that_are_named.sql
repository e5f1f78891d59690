-- A slug that a tenant gives up may be another customer's tomorrow. What is stored and names the
-- slug must not reach that one: a grant of headgate.enqueue, and the selector of a template.

-- The slugs that a selection names, and perhaps more: texts of its path that look like slugs.
CREATE FUNCTION headgate.slugs_in(p_selection headgate.selection) RETURNS SETOF text
LANGUAGE sql IMMUTABLE AS $$
    SELECT unnest((p_selection).tenants)
    UNION
    SELECT m.found[1] FROM regexp_matches((p_selection).path::text, '"([a-z][a-z0-9-]{0,62})"', 'g') AS m (found) WHERE strpos((p_selection).path::text, '"tenant"') > 0
$$;

-- Which rule keeps a slug, and by what: a grant's role and kind, a template's name.
CREATE VIEW headgate.named_slugs AS
SELECT s.slug, 'grants_name_tenants' AS rule, g.role || ' ' || g.kind AS named_by FROM headgate.enqueue_grants g CROSS JOIN LATERAL headgate.slugs_in(g.selection) AS s (slug)
UNION ALL
SELECT s.slug, 'templates_name_tenants', f.name FROM headgate.fleets f CROSS JOIN LATERAL headgate.slugs_in(f.selection) AS s (slug);

-- A change of a slug, which is a key, waits for those who hold the tenant, and then sees what
-- they have committed.
DROP TRIGGER check_slug_ungranted ON headgate.tenants;
DROP FUNCTION headgate.check_slug_ungranted();
-- headgate.grants_naming stays, because importers of older programs ask it.

CREATE FUNCTION headgate.check_slug_unnamed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_named record;
BEGIN
    PERFORM headgate.refuse_old_snapshot(format('the slug of tenant %s changes', OLD.slug));
    SELECT n.rule, n.named_by INTO v_named FROM headgate.named_slugs n WHERE n.slug = OLD.slug ORDER BY n.rule, n.named_by LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', CONSTRAINT = v_named.rule, DETAIL = v_named.named_by,
            MESSAGE = format('tenant %s keeps its slug, because %s %s names it', OLD.slug, CASE v_named.rule WHEN 'grants_name_tenants' THEN 'the grant of headgate.enqueue' ELSE 'the selector of template' END, v_named.named_by),
            HINT = 'Have it name no slug first, or take it out.';
    END IF;
    RETURN NULL;
END $$;

-- It goes by the slug, and not by UPDATE OF, because a trigger changes the slug of a tenant
-- that is removed.
CREATE TRIGGER check_slug_unnamed AFTER UPDATE ON headgate.tenants FOR EACH ROW WHEN (OLD.slug <> NEW.slug) EXECUTE FUNCTION headgate.check_slug_unnamed();

-- Whoever stores a selection holds the tenants that it names.
CREATE FUNCTION headgate.hold_named() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM headgate.tenants t WHERE t.slug IN (SELECT headgate.slugs_in(NEW.selection)) ORDER BY t.id FOR KEY SHARE;
    RETURN NEW;
END $$;

CREATE TRIGGER hold_named BEFORE INSERT OR UPDATE OF selection ON headgate.enqueue_grants FOR EACH ROW EXECUTE FUNCTION headgate.hold_named();
CREATE TRIGGER hold_named BEFORE INSERT OR UPDATE OF selection ON headgate.fleets FOR EACH ROW EXECUTE FUNCTION headgate.hold_named();
