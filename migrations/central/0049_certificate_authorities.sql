-- The certificate authorities that addresses name as sslrootcert. They are public: a private
-- key is refused here too.
CREATE TABLE headgate.certificate_authorities (
    name         text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9._]([A-Za-z0-9._-]{0,61}[A-Za-z0-9._])?$'),
    pem          text NOT NULL CHECK (length(pem) BETWEEN 1 AND 262144 AND pem !~* 'private'),
    fingerprints text[] NOT NULL CHECK (cardinality(fingerprints) BETWEEN 1 AND 64), -- SHA-256 of each certificate
    not_after    timestamptz NOT NULL CHECK (isfinite(not_after)),                   -- of the first that expires
    created_at   timestamptz NOT NULL DEFAULT now() CHECK (isfinite(created_at)),
    actor        text NOT NULL DEFAULT ''
);

-- Which authority each sealed address names, beside it in the clear: an authority that one
-- names cannot go, whoever deletes it, and none can be named that is not there.
ALTER TABLE headgate.databases
    ADD COLUMN job_ca text REFERENCES headgate.certificate_authorities,
    ADD COLUMN owner_ca text REFERENCES headgate.certificate_authorities,
    ADD COLUMN job_direct_ca text REFERENCES headgate.certificate_authorities,
    ADD COLUMN owner_direct_ca text REFERENCES headgate.certificate_authorities;
