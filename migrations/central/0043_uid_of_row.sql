-- The UID of a row that names none: a UUIDv8 of the row's number, in hexadecimal, and a hash
-- of the number and the microseconds from 2000 to the row's creation. The number in the UID
-- is how the row is found. It is wire.UIDOfRow.
CREATE OR REPLACE FUNCTION headgate.uid_of_row(id bigint, created_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT (left(n, 8) || '-' || substr(n, 9, 4) || '-8' || substr(n, 13, 3) || '-8' || substr(n, 16, 1) || left(hash, 2) || '-' || substr(hash, 3, 12))::uuid
    FROM (SELECT lpad(to_hex(id), 16, '0') AS n,
                 encode(sha256(('river_job ' || id || ' ' || CASE
              WHEN isfinite(created_at)
              THEN (extract(epoch FROM created_at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint::text
              WHEN created_at > timestamptz '2000-01-01 00:00:00+00' THEN 'infinity' ELSE '-infinity' END)::bytea), 'hex') AS hash) h
);

-- The number of the row that a UID may be of, or NULL. headgate.job_uid of that row tells.
CREATE FUNCTION headgate.row_of_uid(uid text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN uid ~ '^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$'
            THEN ('x' || left(uid, 8) || substr(uid, 10, 4) || substr(uid, 16, 3) || substr(uid, 21, 1))::bit(64)::bigint END;
