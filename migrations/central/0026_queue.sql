-- Which schema holds the queue. River's tables are found by each session's
-- search_path, so a role with another one found no queue, or made a second one
-- beside it, whose jobs no worker ran. From now on one row says which it is; who
-- starts, migrates, enqueues or looks compares it with what its session finds.

CREATE TABLE headgate.queue (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    schema   text NOT NULL
);

INSERT INTO headgate.queue (schema)
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'river_job'::regclass;
