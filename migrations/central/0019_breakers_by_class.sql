-- A database that refuses work (its disk is full, it takes no writes, it is another
-- one) has a breaker like one that does not answer; but that a connection succeeds
-- proves nothing of it, only an attempt does.
ALTER TABLE headgate.breakers ADD COLUMN class text NOT NULL DEFAULT 'unreachable';
