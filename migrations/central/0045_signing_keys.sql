-- Each database has a key of its own, which its workers and the database itself share, and
-- by which the database knows for which tenant a worker has opened a job. It is sealed like
-- the addresses (orchestrator/catalog/seal.go).
ALTER TABLE headgate.databases ADD COLUMN signing_key bytea NOT NULL;
