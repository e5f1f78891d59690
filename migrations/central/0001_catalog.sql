-- The catalog: which tenant lives in which database on which server.

CREATE TABLE headgate.servers (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    -- The only hosts that an address on this server may name. For transport
    -- socket: the directory of the socket.
    hosts       text[] NOT NULL CHECK (cardinality(hosts) BETWEEN 1 AND 16),
    transport   text NOT NULL DEFAULT 'tls' CHECK (transport IN ('tls', 'plain-loopback', 'socket')),
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'draining', 'down')),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE headgate.databases (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    server_id     uuid NOT NULL REFERENCES headgate.servers,
    dbname        text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('shared', 'dedicated')),
    -- Sealed addresses (orchestrator/catalog/seal.go). The version beside each
    -- is part of what it is sealed with and rises whenever it changes.
    job_login     bytea NOT NULL,
    job_version   int NOT NULL DEFAULT 1,
    owner_login   bytea NOT NULL,
    owner_version int NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (server_id, dbname),
    UNIQUE (id, kind)
);

CREATE TABLE headgate.tenants (
    id            uuid PRIMARY KEY,
    org_id        bigint NOT NULL UNIQUE CHECK (org_id > 0),
    slug          text NOT NULL UNIQUE CHECK (slug ~ '^[a-z][a-z0-9-]{0,62}$'),
    name          text NOT NULL,
    plan          text NOT NULL DEFAULT '',
    status        text NOT NULL DEFAULT 'active'
                  CHECK (status IN ('provisioning', 'active', 'suspended', 'moving', 'archived')),
    timezone      text NOT NULL DEFAULT 'UTC',
    labels        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    -- The placement. generation rises with every move; a tenant transaction
    -- that began under an older one is refused by the tenant database's fence.
    database_id   uuid NOT NULL,
    database_kind text NOT NULL,
    generation    bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (database_id, database_kind) REFERENCES headgate.databases (id, kind) ON UPDATE CASCADE
);

-- The highest org_id ever given out. It never falls, so that a tenant's number,
-- which marks its rows in shared tables, is not given to another after it.
CREATE TABLE headgate.org_ids (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    highest  bigint NOT NULL CHECK (highest >= 0)
);

INSERT INTO headgate.org_ids (highest) VALUES (0);

CREATE INDEX tenants_database ON headgate.tenants (database_id);

-- A dedicated database takes one tenant, whoever inserts the second.
CREATE UNIQUE INDEX tenants_dedicated ON headgate.tenants (database_id) WHERE database_kind = 'dedicated';

CREATE TABLE headgate.tenant_domains (
    domain     text PRIMARY KEY CHECK (domain = lower(domain) AND domain <> ''),
    tenant_id  uuid NOT NULL REFERENCES headgate.tenants ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('subdomain', 'custom')),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX tenant_domains_tenant ON headgate.tenant_domains (tenant_id);
