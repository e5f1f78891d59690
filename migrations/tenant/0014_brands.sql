-- The brand that a job is limited to, as one number that no other organisation's brand has:
-- organisation * 10000 + brand. NULL is a job of all brands.
CREATE FUNCTION headgate.current_org_brand() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    context text[] := headgate.context();
BEGIN
    RETURN context[3]::bigint * 10000 + nullif(context[5], '')::int;
END $$;

REVOKE ALL ON FUNCTION headgate.current_org_brand() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.current_org_brand() TO headgate_job;

ALTER TABLE headgate.protected ADD COLUMN brand_column text; -- the column that holds the brand
GRANT SELECT (brand_column) ON headgate.protected TO headgate_job;
