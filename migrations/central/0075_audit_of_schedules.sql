-- serves: 75
-- The audit of schedules. The clock changes their rows, and so does a template. What somebody
-- decides of one is what its own row says in these columns.
CREATE TRIGGER audit_added AFTER INSERT ON headgate.schedules FOR EACH ROW WHEN (NEW.fleet_id IS NULL)
    EXECUTE FUNCTION headgate.audit_row('schedule', 'id', 'name', 'tenant_id', 'created_at,next_run_at,next_nominal_at,last_run_at,last_job_uid,answered_at,resumed_at,place,buffered,former,fresh,fleet_version,error,paused_at', '');
CREATE TRIGGER audit_removed AFTER DELETE ON headgate.schedules FOR EACH ROW WHEN (OLD.fleet_id IS NULL)
    EXECUTE FUNCTION headgate.audit_row('schedule', 'id', 'name', 'tenant_id', 'created_at,next_run_at,next_nominal_at,last_run_at,last_job_uid,answered_at,resumed_at,place,buffered,former,fresh,fleet_version,error,paused_at', '');
CREATE TRIGGER audit_changed AFTER UPDATE ON headgate.schedules FOR EACH ROW
    WHEN ((OLD.paused, OLD.paused_until, OLD.paused_note, OLD.paused_by) IS DISTINCT FROM (NEW.paused, NEW.paused_until, NEW.paused_note, NEW.paused_by)
       OR OLD.fleet_id IS NOT DISTINCT FROM NEW.fleet_id AND NEW.fleet_id IS NULL AND
          (OLD.tenant_id, OLD.database_id, OLD.name, OLD.kind, OLD.args, OLD.queue, OLD.priority, OLD.max_attempts, OLD.cron, OLD.zone, OLD.follows_zone, OLD.gap, OLD.repeat,
           OLD.start_at, OLD.end_at, OLD.max_occurrences, OLD.calendars, OLD.windows, OLD.spread, OLD.overlap, OLD.buffer_max, OLD.catch_up, OLD.catch_up_max, OLD.catch_up_window,
           OLD.pause_after, OLD.maintenance, OLD.brand_id)
          IS DISTINCT FROM
          (NEW.tenant_id, NEW.database_id, NEW.name, NEW.kind, NEW.args, NEW.queue, NEW.priority, NEW.max_attempts, NEW.cron, NEW.zone, NEW.follows_zone, NEW.gap, NEW.repeat,
           NEW.start_at, NEW.end_at, NEW.max_occurrences, NEW.calendars, NEW.windows, NEW.spread, NEW.overlap, NEW.buffer_max, NEW.catch_up, NEW.catch_up_max, NEW.catch_up_window,
           NEW.pause_after, NEW.maintenance, NEW.brand_id))
    EXECUTE FUNCTION headgate.audit_row('schedule', 'id', 'name', 'tenant_id', 'created_at,next_run_at,next_nominal_at,last_run_at,last_job_uid,answered_at,resumed_at,place,buffered,former,fresh,fleet_version,error,paused_at', '');

-- The record of schedules' changes is the audit.
DROP TABLE headgate.schedule_changes;
