-- How long jobs of a kind take, for forecasts and maintenance windows: kept by the
-- janitor, because reading it from the history takes as long as the history is.
CREATE TABLE headgate.durations (
    kind        text PRIMARY KEY,
    p95         double precision NOT NULL,  -- seconds; of those that succeeded in the last 14 days
    computed_at timestamptz NOT NULL
);
