-- serves: 6
-- The history by month, so that an old month goes by dropping its table. The
-- key must hold the time that the rows are divided by: a worker of an older
-- schema, which names the old key in its ON CONFLICT, cannot write any more.

ALTER TABLE headgate.outcomes RENAME TO outcomes_undivided;
ALTER INDEX headgate.outcomes_pkey RENAME TO outcomes_undivided_pkey;
ALTER INDEX headgate.outcomes_job RENAME TO outcomes_undivided_job;
ALTER INDEX headgate.outcomes_tenant RENAME TO outcomes_undivided_tenant;

CREATE TABLE headgate.outcomes (
    LIKE headgate.outcomes_undivided INCLUDING DEFAULTS,
    PRIMARY KEY (id, ended_at)
) PARTITION BY RANGE (ended_at);

CREATE INDEX outcomes_job ON headgate.outcomes (job_uid, ended_at);
CREATE INDEX outcomes_tenant ON headgate.outcomes (tenant_id, ended_at DESC);

-- Takes what no month takes: the times of a wrong clock, and a month that
-- nobody made in time.
CREATE TABLE headgate.outcomes_default PARTITION OF headgate.outcomes DEFAULT;
CREATE INDEX outcomes_default_age ON headgate.outcomes_default (ended_at);

-- Makes the partition of the month (of UTC) that a time lies in, and returns its
-- name; NULL if it is there. Rows of that month in the default partition are
-- moved, up to 10,000; if there are more the month stays where it is (NULL), for
-- moving it would keep everybody from writing. One caller at a time.
--
-- Attaching locks the default partition for a moment, and nobody out of the
-- months that are in use, as CREATE TABLE … PARTITION OF would.
CREATE FUNCTION headgate.add_outcomes_month(p_at timestamptz) RETURNS text
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    start timestamptz := date_trunc('month', p_at);
    until timestamptz := date_trunc('month', p_at) + interval '1 month';
    name  text := to_char(p_at, '"outcomes_"YYYY_MM');
BEGIN
    IF to_regclass('headgate.' || name) IS NOT NULL
       OR (SELECT count(*) FROM (SELECT FROM headgate.outcomes_default WHERE ended_at >= start AND ended_at < until LIMIT 10001) strays) > 10000
    THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE headgate.%I (LIKE headgate.outcomes INCLUDING DEFAULTS)', name);
    LOCK TABLE headgate.outcomes_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (DELETE FROM headgate.outcomes_default WHERE ended_at >= %2$L AND ended_at < %3$L RETURNING *)
         INSERT INTO headgate.%1$I SELECT * FROM moved', name, start, until);
    EXECUTE format('ALTER TABLE headgate.outcomes ATTACH PARTITION headgate.%I FOR VALUES FROM (%L) TO (%L)', name, start, until);
    RETURN name;
END $$;

-- Drops the months that ended before a time and returns their names. Everybody
-- waits for it and it for everybody, so set a lock_timeout.
CREATE FUNCTION headgate.drop_outcomes_months(p_before timestamptz) RETURNS text[]
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    name    text;
    dropped text[] := '{}';
BEGIN
    FOR name IN
        SELECT c.relname
        FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'headgate.outcomes'::regclass AND c.relname ~ '^outcomes_[0-9]{4}_[0-9]{2}$'
          AND to_date(c.relname, '"outcomes_"YYYY_MM') + interval '1 month' <= p_before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE headgate.%I', name);
        dropped := dropped || name;
    END LOOP;
    RETURN dropped;
END $$;

SELECT headgate.add_outcomes_month(month AT TIME ZONE 'UTC')
FROM generate_series(
    date_trunc('month', (SELECT greatest(coalesce(min(ended_at), now()), now() - interval '2 years') FROM headgate.outcomes_undivided) AT TIME ZONE 'UTC'),
    now() AT TIME ZONE 'UTC' + interval '2 months', interval '1 month') AS month;

INSERT INTO headgate.outcomes SELECT * FROM headgate.outcomes_undivided;

DROP TABLE headgate.outcomes_undivided;
