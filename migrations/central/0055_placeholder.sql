-- Takes the number of a migration that is being written elsewhere, and goes when that comes.
SELECT 1;
