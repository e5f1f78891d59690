-- A label is a text. The table refuses any other value, because the program that would
-- read such a row could list no tenant.
ALTER TABLE headgate.tenants ADD CONSTRAINT tenants_labels_are_texts
    CHECK (NOT jsonb_path_exists(labels, 'strict $.* ? (@.type() != "string")', '{}', true));
