-- Names are completed in shells by how they begin, whatever the database's collation is.
CREATE INDEX tenants_slug_prefix ON headgate.tenants (slug text_pattern_ops);
CREATE INDEX schedules_name_prefix ON headgate.schedules (name text_pattern_ops);
CREATE INDEX databases_name_prefix ON headgate.databases (name text_pattern_ops);
