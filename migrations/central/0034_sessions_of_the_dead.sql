-- A process that stops and does not end (it is frozen, its machine is unreachable) keeps
-- the sessions of its jobs in the tenants' servers when it is declared dead. While the
-- central database still has a session of its as well, other processes count what it
-- held of each server, as long as its row of headgate.hands says. Their claims find out
-- by their own clocks when that time is over; the row is written again here, so that
-- they count from now.

ALTER TABLE headgate.hands ADD COLUMN dead boolean NOT NULL DEFAULT false;
CREATE INDEX hands_dead ON headgate.hands (incarnation) WHERE dead;

-- Whether the process that has written such a row had running jobs and is there yet.
CREATE FUNCTION headgate.is_there(hand jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT (hand->>'linger')::numeric > 0 AND EXISTS (
        SELECT FROM pg_catalog.pg_stat_activity a WHERE a.application_name = hand->>'session' AND a.datname = pg_catalog.current_database())
$$;

CREATE OR REPLACE FUNCTION headgate.empty_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE headgate.hands SET waiting = false, dead = true
    WHERE incarnation = NEW.incarnation AND NEW.ended_at IS NULL AND headgate.is_there(hand);
    IF NOT FOUND THEN
        DELETE FROM headgate.hands WHERE incarnation = NEW.incarnation;
    END IF;
    PERFORM headgate.wake_queues();
    RETURN NULL;
END $$;
