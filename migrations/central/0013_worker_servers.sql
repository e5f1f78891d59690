-- What each worker has to do with tenants' servers, as of its last heartbeat: by
-- the server's id, open connections, waiting jobs, and the breaker if it is not
-- closed. Servers in use only.
ALTER TABLE headgate.workers ADD COLUMN servers jsonb NOT NULL DEFAULT '{}';
