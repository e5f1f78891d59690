-- What stands between Headgate and a server: nothing, or a pooler such as
-- PgBouncer. In transaction mode a session belongs to nobody: what needs one goes
-- to the login's direct address, past the pooler, sealed like the login itself.
-- The version 0 stands for none.

ALTER TABLE headgate.servers ADD COLUMN pooler text NOT NULL DEFAULT 'none'
    CHECK (pooler IN ('none', 'transaction', 'session'));

ALTER TABLE headgate.databases
    ADD COLUMN job_direct bytea,
    ADD COLUMN job_direct_version int NOT NULL DEFAULT 0,
    ADD COLUMN owner_direct bytea,
    ADD COLUMN owner_direct_version int NOT NULL DEFAULT 0;
