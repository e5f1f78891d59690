-- No query reads the history by tenant, and of its three indexes this one cost
-- the most: tenants take turns, so each group of outcomes wrote all over it. A
-- query that does brings its own.
DROP INDEX headgate.outcomes_tenant;
