-- The values of all tenants' features, by one rule; and catalogs hear when a plan or a
-- feature changes them.

-- The features' defaults, and the kinds that need a feature as pairs of kind and feature.
-- version is a number that differs where either does: a process confirms by it what it
-- remembers of a tenant.
CREATE VIEW headgate.feature_defaults AS
SELECT d.values, d.gates, hashtextextended(d.values::text || d.gates::text, 0) AS version
FROM (SELECT (SELECT coalesce(jsonb_object_agg(f.name, f.default_value) FILTER (WHERE f.default_value IS NOT NULL), '{}') FROM headgate.features f) AS values,
             (SELECT coalesce(jsonb_agg(jsonb_build_array(g.kind, g.feature) ORDER BY g.kind, g.feature DESC), '[]') FROM headgate.feature_gates g WHERE g.kind <> '') AS gates) d;

-- A tenant's own value goes before its plan's, and that before the default.
CREATE FUNCTION headgate.feature_values(p_defaults jsonb, p_plan jsonb, p_own jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_defaults || p_plan || p_own;

CREATE OR REPLACE FUNCTION headgate.tenant_features(p_plan text, p_own jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT headgate.feature_values(
        (SELECT d.values FROM headgate.feature_defaults d),
        coalesce((SELECT p.features FROM headgate.plans p WHERE p.name = p_plan), '{}'),
        p_own)
$$;

-- A plan's tenants may be all there are. A plan begins without values, so that nobody need
-- hear of it.
CREATE FUNCTION headgate.feature_values_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('headgate_catalog', '*');
    RETURN NULL;
END $$;

CREATE TRIGGER catalog_updated AFTER UPDATE ON headgate.plans FOR EACH ROW
    WHEN (OLD.features <> NEW.features OR OLD.kinds IS DISTINCT FROM NEW.kinds OR OLD.name <> NEW.name) EXECUTE FUNCTION headgate.feature_values_changed();
CREATE TRIGGER catalog_inserted AFTER INSERT ON headgate.features FOR EACH ROW
    WHEN (NEW.default_value IS NOT NULL) EXECUTE FUNCTION headgate.feature_values_changed();
CREATE TRIGGER catalog_updated AFTER UPDATE ON headgate.features FOR EACH ROW
    WHEN (OLD.default_value IS DISTINCT FROM NEW.default_value OR OLD.name <> NEW.name) EXECUTE FUNCTION headgate.feature_values_changed();
CREATE TRIGGER catalog_deleted AFTER DELETE ON headgate.features FOR EACH ROW EXECUTE FUNCTION headgate.feature_values_changed();
CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE ON headgate.feature_gates FOR EACH ROW EXECUTE FUNCTION headgate.feature_values_changed();
