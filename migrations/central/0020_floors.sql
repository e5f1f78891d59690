-- Beside a snapshot that somebody keeps open no dead row can be taken away, and a
-- walk that begins at the oldest end of an index passes all that have died since.
-- So claims know where to begin.

-- No claim is under way, and who enqueues waits behind this and not across it.
SELECT pg_advisory_xact_lock(4737, 0);
LOCK TABLE river_job, headgate.wakeups, headgate.lanes, headgate.lane_groups IN ACCESS EXCLUSIVE MODE;

-- By priority, where the lane's available rows begin: none of them has a lower
-- (scheduled_at, id). Claims raise it to the last row that they have taken, and
-- wake-ups lower it. A priority that is missing has no rows; NULL: anywhere.
ALTER TABLE headgate.lanes ADD COLUMN floors jsonb;

-- No active lane of the group has a lower vtime. It never falls, for whatever is
-- written begins at the queue's present time, which does not either.
ALTER TABLE headgate.lane_groups ADD COLUMN floor double precision NOT NULL DEFAULT '-infinity';

-- The earliest of the rows that have become available. NULL: none has, the lane's
-- owner has changed.
ALTER TABLE headgate.wakeups
    ADD COLUMN priority     smallint,
    ADD COLUMN scheduled_at timestamptz;

INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
SELECT DISTINCT queue, lane, kind, p, '-infinity'::timestamptz FROM headgate.wakeups, generate_series(1, 4) p;

CREATE OR REPLACE FUNCTION headgate.wake_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
    SELECT queue, headgate.lane(metadata), kind, priority, min(scheduled_at) FROM inserted WHERE state = 'available' GROUP BY 1, 2, 3, 4;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION headgate.wake_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
    VALUES (NEW.queue, headgate.lane(NEW.metadata), NEW.kind, NEW.priority, NEW.scheduled_at);
    RETURN NULL;
END $$;

DROP TRIGGER headgate_wake_updated ON river_job;
CREATE TRIGGER headgate_wake_updated AFTER UPDATE OF state, queue, kind, metadata, scheduled_at, priority ON river_job FOR EACH ROW
    WHEN (NEW.state = 'available' AND (OLD.state <> 'available' OR OLD.queue <> NEW.queue OR OLD.kind <> NEW.kind
          OR OLD.scheduled_at > NEW.scheduled_at OR OLD.priority <> NEW.priority OR OLD.metadata IS DISTINCT FROM NEW.metadata))
    EXECUTE FUNCTION headgate.wake_updated();

-- A program that does not know floors consumes wake-ups too, while it is being
-- replaced: what it has consumed lowers no floor, and what it has woken may lie
-- below one, so these floors are forgotten.
CREATE FUNCTION headgate.forget_floors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE headgate.lane_groups SET floor = '-infinity' WHERE floor > '-infinity';
    UPDATE headgate.lanes l SET floors = NULL
    FROM (SELECT DISTINCT queue, lane, kind FROM consumed WHERE priority IS NOT NULL) c
    WHERE l.queue = c.queue AND l.lane = c.lane AND l.kind = c.kind AND l.floors IS NOT NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER wakeups_consumed AFTER DELETE ON headgate.wakeups REFERENCING OLD TABLE AS consumed FOR EACH STATEMENT
    WHEN (current_setting('headgate.floors', true) IS DISTINCT FROM 'kept')
    EXECUTE FUNCTION headgate.forget_floors();
