-- Policies ask for the key with the job's rights.
REVOKE ALL ON FUNCTION headgate.current_org_key() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.current_org_key() TO headgate_job;
