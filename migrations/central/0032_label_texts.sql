-- A label is a text. The table refuses any other value, because the program that would
-- read such a row could list no tenant. What a row has of another type becomes its text.
UPDATE headgate.tenants
SET labels = (SELECT coalesce(jsonb_object_agg(key, to_jsonb(value #>> '{}')) FILTER (WHERE jsonb_typeof(value) <> 'null'), '{}') FROM jsonb_each(labels))
WHERE jsonb_path_exists(labels, 'strict $.* ? (@.type() != "string")', '{}', true);

ALTER TABLE headgate.tenants ADD CONSTRAINT tenants_labels_are_texts
    CHECK (NOT jsonb_path_exists(labels, 'strict $.* ? (@.type() != "string")', '{}', true));
