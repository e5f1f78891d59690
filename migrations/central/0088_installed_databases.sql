-- An import enters databases that have no schema of Headgate's yet, and nothing showed which.
-- Each other way into the catalog installs the schema before the row is there.
ALTER TABLE headgate.databases ADD COLUMN installed boolean NOT NULL DEFAULT true;
