-- What no program of ours writes, and none could read: it would stop every list and
-- batch that its row is part of.
ALTER TABLE headgate.schedules
    ADD CHECK (isfinite(next_run_at) AND isfinite(next_nominal_at) AND isfinite(answered_at) AND isfinite(resumed_at)
           AND isfinite(last_run_at) AND isfinite(paused_at) AND isfinite(paused_until) AND isfinite(start_at) AND isfinite(end_at)),
    ADD CHECK (place BETWEEN 0 AND 1),
    ADD CHECK (jsonb_typeof(buffered) = 'array'),
    ADD CHECK (array_position(calendars, NULL) IS NULL AND array_position(windows, NULL) IS NULL
           AND coalesce(array_ndims(calendars), 1) = 1 AND coalesce(array_ndims(windows), 1) = 1);

ALTER TABLE headgate.closures
    ADD CHECK (isfinite(from_at) AND isfinite(until_at)),
    ADD CHECK (array_position(spans, NULL) IS NULL AND coalesce(array_ndims(spans), 1) = 1);
