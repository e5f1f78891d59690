-- Virtual time remembers what an owner has received, and fairness is about the present.
-- An epoch of a queue ends when nothing waits in it: what was received until then took
-- nothing from anybody, and counts against nobody who returns later.
ALTER TABLE headgate.lane_clocks ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

-- The epoch in which the lane was charged last.
ALTER TABLE headgate.lanes ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
