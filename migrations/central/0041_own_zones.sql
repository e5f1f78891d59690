-- A tenant's own schedule that was created without a time zone follows the tenant's, as
-- those of selectors do.
ALTER TABLE headgate.schedules ADD COLUMN follows_zone boolean NOT NULL DEFAULT false;
