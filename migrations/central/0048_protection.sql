-- Whether the jobs of a shared database wait while it does not keep its tenants apart
-- (enforce), or run all the same, which somebody has decided, with a reason (observe).
ALTER TABLE headgate.databases
    ADD COLUMN protection        text NOT NULL DEFAULT 'enforce' CHECK (protection IN ('enforce', 'observe')),
    ADD COLUMN protection_reason text,
    ADD COLUMN protection_by     text,
    ADD COLUMN protection_since  timestamptz NOT NULL DEFAULT now(),
    ADD CONSTRAINT databases_observed_for_a_reason CHECK (protection = 'enforce' OR protection_reason <> ''),
    ADD CONSTRAINT databases_observed_is_shared CHECK (protection = 'enforce' OR kind = 'shared');
