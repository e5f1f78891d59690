-- What handlers have logged of their attempts, by day. A row is written with the attempt's
-- end, and is kept no longer than the attempt itself.
CREATE TABLE headgate.job_logs (
    id       uuid NOT NULL,         -- the attempt's, as in outcomes
    job_uid  uuid NOT NULL,
    attempt  int NOT NULL,
    ended_at timestamptz NOT NULL,  -- the attempt's
    lines    text NOT NULL,         -- JSON objects, a line each; text, because jsonb takes no U+0000
    PRIMARY KEY (job_uid, ended_at, id)
) PARTITION BY RANGE (ended_at);

-- Takes what no day takes, as in outcomes.
CREATE TABLE headgate.job_logs_default PARTITION OF headgate.job_logs DEFAULT;
CREATE INDEX job_logs_default_age ON headgate.job_logs_default (ended_at);

-- Makes the partition of the month or day (of UTC) that a time lies in, for a table that is
-- divided by ended_at, and returns its name; NULL if it is there. Rows of that time in the
-- default partition are moved, up to 10,000; if there are more they stay where they are
-- (NULL), for moving them would keep everybody from writing. One caller at a time.
--
-- Attaching locks the default partition for a moment, and nobody out of the partitions that
-- are in use, as CREATE TABLE … PARTITION OF would.
CREATE FUNCTION headgate.add_part(p_table text, p_unit text, p_at timestamptz) RETURNS text
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    start timestamptz := date_trunc(p_unit, p_at);
    until timestamptz := date_trunc(p_unit, p_at) + ('1 ' || p_unit)::interval;
    name  text := p_table || to_char(p_at, CASE p_unit WHEN 'month' THEN '"_"YYYY_MM' ELSE '"_"YYYY_MM_DD' END);
    many  boolean;
BEGIN
    IF to_regclass('headgate.' || name) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) > 10000 FROM (SELECT FROM headgate.%I WHERE ended_at >= %L AND ended_at < %L LIMIT 10001) strays', p_table || '_default', start, until)
    INTO many;
    IF many THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE headgate.%I (LIKE headgate.%I INCLUDING DEFAULTS)', name, p_table);
    EXECUTE format('LOCK TABLE headgate.%I IN ACCESS EXCLUSIVE MODE', p_table || '_default');
    EXECUTE format(
        'WITH moved AS (DELETE FROM headgate.%2$I WHERE ended_at >= %3$L AND ended_at < %4$L RETURNING *)
         INSERT INTO headgate.%1$I SELECT * FROM moved', name, p_table || '_default', start, until);
    EXECUTE format('ALTER TABLE headgate.%I ATTACH PARTITION headgate.%I FOR VALUES FROM (%L) TO (%L)', p_table, name, start, until);
    RETURN name;
END $$;

-- Drops the months or days that ended before a time and returns their names. Everybody
-- waits for it and it for everybody, so set a lock_timeout. The last day stays, whoever calls:
-- a janitor keeps a day or more (retention.Config), and any worker's login may call.
CREATE FUNCTION headgate.drop_parts(p_table text, p_unit text, p_before timestamptz) RETURNS text[]
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name    text;
    dropped text[] := '{}';
BEGIN
    IF p_before > clock_timestamp() - interval '1 day' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('dropping the %ss of headgate.%s that ended before %s: the last 24 hours stay', p_unit, p_table, p_before),
            HINT = 'Give a time that is 24 hours past or more. retention.Config says how long each is kept.';
    END IF;
    FOR name IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = ('headgate.' || p_table)::regclass
          AND c.relname ~ ('^' || p_table || CASE p_unit WHEN 'month' THEN '_[0-9]{4}_[0-9]{2}$' ELSE '_[0-9]{4}_[0-9]{2}_[0-9]{2}$' END)
          AND to_date(right(c.relname, -length(p_table) - 1), CASE p_unit WHEN 'month' THEN 'YYYY_MM' ELSE 'YYYY_MM_DD' END) + ('1 ' || p_unit)::interval <= p_before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE headgate.%I', name);
        dropped := dropped || name;
    END LOOP;
    RETURN dropped;
END $$;

-- What a janitor may call, as the owner of the tables.
CREATE OR REPLACE FUNCTION headgate.add_outcomes_month(p_at timestamptz) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT headgate.add_part('outcomes', 'month', p_at) $$;

CREATE OR REPLACE FUNCTION headgate.drop_outcomes_months(p_before timestamptz) RETURNS text[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT headgate.drop_parts('outcomes', 'month', p_before) $$;

CREATE FUNCTION headgate.add_job_logs_day(p_at timestamptz) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT headgate.add_part('job_logs', 'day', p_at) $$;

CREATE FUNCTION headgate.drop_job_logs_days(p_before timestamptz) RETURNS text[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT headgate.drop_parts('job_logs', 'day', p_before) $$;

SELECT headgate.add_job_logs_day(now() + make_interval(days => ahead)) FROM generate_series(0, 4) AS ahead;
