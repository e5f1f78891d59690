-- The organisation's key as text, as tables with a text or uuid column hold it.
CREATE FUNCTION headgate.current_org_key() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT headgate.current_org()::text
$$;
