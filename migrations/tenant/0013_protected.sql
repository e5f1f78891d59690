-- What the owner has declared about the application's tables, views and functions: how
-- each is guarded, or that it needs no guard. Workers read it before they work here; a job
-- can change none of it.
CREATE TABLE headgate.protected (
    object      text PRIMARY KEY,         -- schema.name, with quotes where SQL needs them; a function's with its argument types
    mode        text NOT NULL CHECK (mode IN ('policy', 'through', 'view', 'public', 'copy', 'function')),
    org_column  text,                     -- the column that holds the organisation
    through     text,                     -- the column, or columns, that lead to the parent
    shown_by    text,                     -- Headgate's own view of it: schema.name
    actor       text NOT NULL DEFAULT '',
    reason      text NOT NULL DEFAULT '',
    declared_at timestamptz NOT NULL DEFAULT now(),
    CHECK (mode <> 'policy' OR org_column IS NOT NULL),
    CHECK (mode <> 'through' OR through IS NOT NULL),
    CHECK (mode NOT IN ('view', 'copy') OR shown_by IS NOT NULL)
);

REVOKE ALL ON headgate.protected FROM PUBLIC;
GRANT SELECT (object, mode, org_column, through, shown_by) ON headgate.protected TO headgate_job;
