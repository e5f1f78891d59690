-- The schema of the demo's SaaS, an issue tracker, as a tenant database has it:
-- the same in shared databases and in those of one tenant.

CREATE TABLE organizations (
    org_id bigint PRIMARY KEY,
    name   text NOT NULL,
    plan   text NOT NULL
);

CREATE TABLE brands (
    org_id       bigint NOT NULL REFERENCES organizations,
    brand_id     int NOT NULL CHECK (brand_id BETWEEN 0 AND 9999),
    org_brand_id bigint NOT NULL UNIQUE GENERATED ALWAYS AS (org_id * 10000 + brand_id) STORED,
    name         text NOT NULL,
    budget       bigint NOT NULL CHECK (budget >= 0),   -- in points, for the quarter
    PRIMARY KEY (org_id, brand_id)
);

CREATE TABLE tasks (
    org_id       bigint NOT NULL,
    task_id      int NOT NULL,
    brand_id     int NOT NULL CHECK (brand_id BETWEEN 0 AND 9999),
    org_brand_id bigint NOT NULL GENERATED ALWAYS AS (org_id * 10000 + brand_id) STORED,
    title        text NOT NULL,
    assignee     text NOT NULL,
    status       text NOT NULL CHECK (status IN ('open', 'doing', 'done')),
    points       int NOT NULL CHECK (points > 0),
    created_at   timestamptz NOT NULL,
    done_at      timestamptz CHECK ((done_at IS NOT NULL) = (status = 'done')),
    PRIMARY KEY (org_id, task_id),
    FOREIGN KEY (org_id, brand_id) REFERENCES brands
);

CREATE INDEX tasks_by_brand ON tasks (org_brand_id, status);
CREATE INDEX tasks_by_age ON tasks (org_id, done_at) WHERE status = 'done';

-- One row for each transfer of budget. job_uid is not unique, on purpose: that
-- there is one row a job is what Headgate promises, and what the demo counts.
CREATE TABLE budget_moves (
    org_id     bigint NOT NULL REFERENCES organizations,
    job_uid    uuid NOT NULL,
    from_brand int NOT NULL,
    to_brand   int NOT NULL,
    points     bigint NOT NULL CHECK (points > 0),
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (org_id, from_brand) REFERENCES brands,
    FOREIGN KEY (org_id, to_brand) REFERENCES brands
);

-- What cmd/example-worker writes; the demo tells how to run it.
CREATE TABLE greetings (
    org_id bigint NOT NULL REFERENCES organizations,
    text   text NOT NULL
);

-- Jobs may do what the demo's kinds need, and no more ...
GRANT SELECT ON organizations TO headgate_job;
GRANT SELECT, UPDATE (budget) ON brands TO headgate_job;
GRANT SELECT, DELETE ON tasks TO headgate_job;
GRANT SELECT, INSERT ON budget_moves TO headgate_job;
GRANT SELECT, INSERT ON greetings TO headgate_job;

-- ... and each of them for its own organisation only, in reading and in writing.
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE brands        ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks         ENABLE ROW LEVEL SECURITY;
ALTER TABLE budget_moves  ENABLE ROW LEVEL SECURITY;
ALTER TABLE greetings     ENABLE ROW LEVEL SECURITY;

CREATE POLICY one_org ON organizations TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE POLICY one_org ON brands TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE POLICY one_org ON tasks TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE POLICY one_org ON budget_moves TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
CREATE POLICY one_org ON greetings TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
