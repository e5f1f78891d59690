-- How many connections a server may have from one worker process, over all its
-- databases and logins.
ALTER TABLE headgate.servers ADD COLUMN connection_budget int NOT NULL DEFAULT 20 CHECK (connection_budget BETWEEN 1 AND 10000);
