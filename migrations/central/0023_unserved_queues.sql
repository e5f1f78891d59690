-- Wake-ups are consumed by claims, and nobody claims for a queue that another River
-- client works, that was renamed, or whose name was mistyped. Its wake-ups would stay,
-- and every claim for every queue would walk past them.

-- Queues that have had jobs and no living worker of Headgate's. Written by the sweep,
-- and by workers that start: they take their queues out, and wake what waits. A queue
-- that is in no list is woken.
CREATE TABLE headgate.unserved_queues (
    queue text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE FUNCTION headgate.wake_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
    SELECT queue, headgate.lane(metadata), kind, priority, min(scheduled_at) FROM inserted i
    WHERE state = 'available' AND NOT EXISTS (SELECT FROM headgate.unserved_queues u WHERE u.queue = i.queue)
    GROUP BY 1, 2, 3, 4;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION headgate.wake_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
    SELECT NEW.queue, headgate.lane(NEW.metadata), NEW.kind, NEW.priority, NEW.scheduled_at
    WHERE NOT EXISTS (SELECT FROM headgate.unserved_queues u WHERE u.queue = NEW.queue);
    RETURN NULL;
END $$;
