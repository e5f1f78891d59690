-- The features that an attempt's handler has asked for, by name, with the values that it got;
-- null is a feature that was absent. NULL: it has asked for none.
ALTER TABLE headgate.outcomes ADD COLUMN features jsonb;
