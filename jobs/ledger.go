package jobs

import "time"

// LedgerRetention is how long a tenant database's ledger remembers a job, from
// the beginning of the attempt that wrote its row: for so long the same UID can
// never have its effect twice, and may be tried again.
const LedgerRetention = 30 * 24 * time.Hour
