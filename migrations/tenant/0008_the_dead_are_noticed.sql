-- A worker that dies leaves its statement to the server, which learns of it when
-- it next has something to say to the worker. Until then the statement goes on:
-- with its locks, and beyond the server's budget, since what a dead worker had in
-- hand counts against that only until others take it for dead. So a job's session
-- looks at its socket as often as a worker's heartbeat comes, and the statement is
-- over before anybody else begins the job. It costs one timer a statement.
--
-- Postgres before 14 cannot do it, nor can any on Windows; there the function does
-- nothing, and the job's timeout is what ends the statement.

DO $$
DECLARE body text := 'SELECT pg_catalog.set_config(''client_connection_check_interval'', p_every_ms::text, p_local)';
BEGIN
    BEGIN
        PERFORM set_config('client_connection_check_interval', '1000', true);
    EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN
        body := 'SELECT NULL::text';
    END;
    EXECUTE format('CREATE FUNCTION headgate.watch_client(p_every_ms bigint, p_local boolean) RETURNS text LANGUAGE sql AS %L', body);
END $$;

REVOKE ALL ON FUNCTION headgate.watch_client(bigint, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.watch_client(bigint, boolean) TO headgate_job;
