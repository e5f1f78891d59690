-- Anybody may write rows of the queue, with whatever its columns allow. What of such
-- a row is a UUID, and which UID it has, is said here once; none of this can fail.

-- A UUID as Postgres writes it (lower case, hyphens), or NULL.
CREATE FUNCTION headgate.uuid_or_null(value text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN value::uuid END;

-- For programs from before this schema.
CREATE OR REPLACE FUNCTION headgate.lane_uuid(lane text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN headgate.uuid_or_null(lane);

-- The UID of a row that names none: a UUIDv8 of its number and the microseconds from
-- 2000 to its creation. It is jobs.UIDOfRow.
CREATE FUNCTION headgate.uid_of_row(id bigint, created_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT overlay(overlay(hex PLACING '8' FROM 13) PLACING translate(substr(hex, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab') FROM 17)::uuid
    FROM (SELECT left(encode(sha256(('river_job ' || id || ' ' || CASE
              WHEN isfinite(created_at)
              THEN (extract(epoch FROM created_at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint::text
              WHEN created_at > timestamptz '2000-01-01 00:00:00+00' THEN 'infinity' ELSE '-infinity' END)::bytea), 'hex'), 32) AS hex) h
);

-- The UID of a row. It is that of jobs.ReadMeta.
CREATE FUNCTION headgate.job_uid(metadata jsonb, id bigint, created_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(headgate.uuid_or_null(metadata->>'job_uid'), headgate.uid_of_row(id, created_at));

-- Metadata to which keys can be added, whatever somebody has written there.
CREATE FUNCTION headgate.as_object(metadata jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(metadata) = 'object' THEN metadata ELSE jsonb_build_object('was', metadata) END;
