-- The schedules that an error has stopped, which metrics count. A schedule that fires is
-- never among them.
CREATE INDEX schedules_stopped ON headgate.schedules (id) WHERE next_run_at IS NULL AND error <> '';
