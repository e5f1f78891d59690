package claim

// DueSQL is dueSQL.
const DueSQL = dueSQL
