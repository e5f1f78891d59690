-- A slug that a tenant gives up may be another customer's tomorrow. What is stored and names the
-- slug must not reach that one: a grant of headgate.enqueue, and the selector of a template.

-- The slugs that a selection names. Its path holds `$."tenant"?(@ == "acme" || @ == "globex")`
-- for each comparison of the attribute.
CREATE FUNCTION headgate.slugs_in(p_selection headgate.selection) RETURNS SETOF text
LANGUAGE sql IMMUTABLE AS $$
    SELECT unnest((p_selection).tenants)
    UNION
    SELECT n.slug[1]
    FROM regexp_matches((p_selection).path::text, '\$\."tenant" ?\? ?\(([^()]*)\)', 'g') AS c (compared)
    CROSS JOIN LATERAL regexp_matches(c.compared[1], '"([a-z][a-z0-9-]{0,62})"', 'g') AS n (slug)
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

-- The rules are read once a statement, because each has its selection taken apart.
CREATE FUNCTION headgate.check_slugs_unnamed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_slugs text[] := ARRAY(SELECT x.slug FROM (SELECT o.id, o.slug FROM old_rows o EXCEPT SELECT n.id, n.slug FROM new_rows n) x);
    v_named record;
BEGIN
    IF v_slugs = '{}' THEN
        RETURN NULL;
    END IF;
    PERFORM headgate.refuse_old_snapshot(format('the slug of tenant %s changes', v_slugs[1]));
    SELECT n.slug, n.rule, n.named_by INTO v_named FROM headgate.named_slugs n JOIN unnest(v_slugs) AS s (slug) ON s.slug = n.slug ORDER BY n.rule, n.named_by, n.slug LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', CONSTRAINT = v_named.rule, DETAIL = v_named.named_by,
            MESSAGE = format('tenant %s keeps its slug, because %s %s names it', v_named.slug, CASE v_named.rule WHEN 'grants_name_tenants' THEN 'the grant of headgate.enqueue' ELSE 'the selector of template' END, v_named.named_by),
            HINT = 'Have it name no slug first, or take it out.';
    END IF;
    RETURN NULL;
END $$;

-- The trigger of a removal changes slugs, so that UPDATE OF slug would not do.
CREATE TRIGGER check_slugs_unnamed AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_slugs_unnamed();

-- Whoever stores a selection holds the tenants that it names. One that gives up its slug in
-- that moment is missing behind the lock, and another customer may get the slug.
CREATE FUNCTION headgate.hold_named() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_slugs text[] := ARRAY(SELECT headgate.slugs_in(NEW.selection));
    v_known text[] := ARRAY(SELECT t.slug FROM headgate.tenants t WHERE t.slug = ANY (v_slugs));
    v_held  text[] := ARRAY(SELECT t.slug FROM headgate.tenants t WHERE t.slug = ANY (v_known) ORDER BY t.id FOR KEY SHARE);
    v_gone  text;
BEGIN
    SELECT k.slug INTO v_gone FROM unnest(v_known) AS k (slug) WHERE k.slug <> ALL (v_held) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
            MESSAGE = format('tenant %s, which the selector names, gave up its slug in this moment', v_gone), HINT = 'headgate tenant list shows the slugs of today.';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER hold_named BEFORE INSERT OR UPDATE OF selection ON headgate.enqueue_grants FOR EACH ROW EXECUTE FUNCTION headgate.hold_named();
CREATE TRIGGER hold_named BEFORE INSERT OR UPDATE OF selection ON headgate.fleets FOR EACH ROW EXECUTE FUNCTION headgate.hold_named();
