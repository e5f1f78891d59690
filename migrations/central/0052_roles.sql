-- Each program works as a role of its own (docs/operations.md, Roles of the central
-- database). Roles belong to the whole server, so their names begin with a prefix that this
-- row keeps. `headgate central prepare` may have made the table before any migration.
-- What each role is granted stands in migrations/grants.go.
CREATE TABLE IF NOT EXISTS headgate.roles (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    prefix   text NOT NULL CHECK (prefix ~ '^[a-z][a-z0-9_]{0,39}$')
);

INSERT INTO headgate.roles (prefix) VALUES ('headgate') ON CONFLICT DO NOTHING;

-- Whoever inserts a job wakes its lane, and needs no right on the tables of claims for it:
-- the triggers on the queue work as their owner. The triggers on other tables work as who
-- writes these tables.
ALTER FUNCTION headgate.wake_inserted() SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION headgate.wake_updated() SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The janitor makes and drops tables of the history, which an owner does.
ALTER FUNCTION headgate.add_outcomes_month(timestamptz) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION headgate.drop_outcomes_months(timestamptz) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
