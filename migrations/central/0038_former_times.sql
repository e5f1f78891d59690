-- What a schedule has missed is answered by the times that it had then. Whoever changes
-- its times while some of them are due and not answered (no scheduler ran, or it waits for
-- its place in a spread) leaves the times that it had in the row, whether by a command,
-- by a selector, by a new time zone or by SQL. The scheduler answers those first.

ALTER TABLE headgate.schedules ADD COLUMN former jsonb NOT NULL DEFAULT '[]';
ALTER TABLE headgate.schedules ADD CONSTRAINT schedules_former_check CHECK (jsonb_typeof(former) = 'array') NOT VALID;

-- What a paused schedule names is answered at the end of the pause, by the times that it
-- had when they came: those before a change are kept as well.
CREATE FUNCTION headgate.keep_former_times() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    IF NOT OLD.paused AND NOT OLD.fresh AND (OLD.next_nominal_at IS NULL OR OLD.next_nominal_at > at) THEN
        RETURN NEW; -- nothing was missed
    END IF;
    IF jsonb_array_length(OLD.former) < 20 THEN
        NEW.former := OLD.former || jsonb_build_array(jsonb_build_object(
            'at', at, 'nominal', OLD.next_nominal_at, 'fresh', OLD.fresh, 'cron', OLD.cron, 'zone', OLD.zone, 'gap', OLD.gap, 'repeat', OLD.repeat,
            'start', OLD.start_at, 'end', OLD.end_at, 'max', OLD.max_occurrences, 'calendars', OLD.calendars, 'windows', OLD.windows, 'spread_seconds', OLD.spread));
    ELSE
        NEW.former := jsonb_set(OLD.former, '{19,at}', to_jsonb(at)); -- the last that are known stand for the rest
    END IF;
    IF NOT OLD.paused THEN
        NEW.fresh := true;
        NEW.next_run_at := at;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER former_times BEFORE UPDATE OF cron, zone, gap, repeat, start_at, end_at, max_occurrences, calendars, windows, spread ON headgate.schedules FOR EACH ROW
WHEN (OLD.paused = NEW.paused AND OLD.error = ''
      AND (OLD.cron, OLD.zone, OLD.gap, OLD.repeat, OLD.start_at, OLD.end_at, OLD.max_occurrences, OLD.calendars, OLD.windows, OLD.spread)
          IS DISTINCT FROM (NEW.cron, NEW.zone, NEW.gap, NEW.repeat, NEW.start_at, NEW.end_at, NEW.max_occurrences, NEW.calendars, NEW.windows, NEW.spread))
EXECUTE FUNCTION headgate.keep_former_times();

ALTER TABLE headgate.occurrences DROP CONSTRAINT occurrences_outcome_check;
ALTER TABLE headgate.occurrences ADD CONSTRAINT occurrences_outcome_check CHECK (outcome IN (
    'fired', 'skipped_overlap', 'skipped_paused', 'skipped_dst', 'skipped_excluded', 'missed_window', 'coalesced', 'suspended', 'failed_to_enqueue', 'superseded')) NOT VALID;

-- A schedule that goes answers for what it has missed, in one run of unknown length.
CREATE FUNCTION headgate.answer_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.next_nominal_at > clock_timestamp() OR OLD.next_nominal_at <= OLD.answered_at THEN
        RETURN NULL;
    END IF;
    INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, decided_at, note)
    VALUES (OLD.id, OLD.next_nominal_at, clock_timestamp(), 'superseded', clock_timestamp(), 'the schedule was deleted, or its tenant left the selector; the count is a lower bound')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER answer_deleted AFTER DELETE ON headgate.schedules FOR EACH ROW
WHEN (NOT OLD.paused AND OLD.error = '' AND NOT OLD.fresh AND OLD.next_nominal_at IS NOT NULL)
EXECUTE FUNCTION headgate.answer_deleted();

-- What a schedule in error could not fire is answered so, and not made up for, when a
-- selector's change or a new time zone sets it going again.
CREATE FUNCTION headgate.answer_error() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    IF OLD.next_nominal_at <= at THEN
        INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, decided_at, note)
        VALUES (OLD.id, OLD.next_nominal_at, at, 'failed_to_enqueue', at, left(OLD.error, 400) || '; the count is a lower bound')
        ON CONFLICT DO NOTHING;
        NEW.next_nominal_at := NULL;
        NEW.answered_at := greatest(NEW.answered_at, at);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER answer_error BEFORE UPDATE OF error ON headgate.schedules FOR EACH ROW
WHEN (OLD.error <> '' AND NEW.error = '' AND NEW.fresh AND NOT OLD.paused AND OLD.next_nominal_at > coalesce(OLD.answered_at, '-infinity'))
EXECUTE FUNCTION headgate.answer_error();
