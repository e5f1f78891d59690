// Package wire is the form of rows: how Headgate's halves write a job into the queue,
// and read it there. It is no API: it may change in any version. An application uses
// package jobs.
//
//	arguments ─▶ JSON that Postgres stores as it is              args.go, text.go, names.go
//	metadata of a row: whose job, of which schedule, who cancels  meta.go, row.go
//	a job's UID, where the row has none, or the schedule makes it row.go
//	tombstone: the job that stops another in its tenant's ledger   ledger.go
//	what a handler asked for besides: follow-ups, kept in the ledger  followup.go
//
// The package is a leaf above jobs: Meta and the tombstones are made of the words of
// jobs. jobs does not import it.
//
// Its weakness: the rows are River's, and any client of River may write there what it
// likes. So reading leaves out what does not fit, and says what that was.
package wire
