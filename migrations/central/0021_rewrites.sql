-- What claims write all the time can be written anew, without the dead rows that a
-- snapshot keeps which somebody has left open: TRUNCATE asks no snapshot.

-- When each part was last tried, by any worker.
CREATE TABLE headgate.rewrites (
    part     text PRIMARY KEY,
    tried_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO headgate.rewrites (part) VALUES ('lanes'), ('clocks'), ('wakeups');

-- Writes tables of this schema anew, under an exclusive lock on all of them, or not
-- at all if one is not to be had (lock_timeout, 55P03). A snapshot from before finds
-- them empty, so whoever reads them by one for long takes a lock first, as a dump
-- does. Call it under the claims' lock.
CREATE FUNCTION headgate.rewrite(tables text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
    kept text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'tables can be written anew in a READ COMMITTED transaction only: what this one does not see would be lost';
    END IF;
    FOREACH name IN ARRAY tables LOOP
        EXECUTE format('LOCK TABLE headgate.%I IN ACCESS EXCLUSIVE MODE', name);
    END LOOP;
    FOREACH name IN ARRAY tables LOOP
        EXECUTE format('SELECT array_agg(t)::text FROM headgate.%I t', name) INTO kept;
        EXECUTE format('TRUNCATE headgate.%I', name);
        EXECUTE format('INSERT INTO headgate.%1$I SELECT * FROM unnest($1::headgate.%1$I[])', name) USING kept;
    END LOOP;
END $$;
