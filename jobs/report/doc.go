// Package report is the kind that turns a query into a CSV file: one job asks
// one tenant's database one question and leaves <tenant>/<name>-<job uid>.csv in
// a bucket, which may be a folder ([OpenFolder]) or any other that gocloud.dev
// opens.
//
//	query ──▶ prepared, read only ──▶ rows, as they come off the socket ──▶ temporary file
//	                                                                            │ all rows there
//	                                                                            ▼
//	                                                            <tenant>/<name>-<uid>.csv
//
// The file appears under its name when it is complete, and not before: a query
// that fails half way, a cancelled job and a killed worker leave nothing there.
// The name comes from the job's uid, so that a repeated attempt writes the same
// file again instead of a second one.
//
// Rows are never collected; memory stays flat whatever the number of rows. One
// single row is held whole.
//
// # The file
//
// UTF-8, commas, lines ended by \n, quoted where needed (RFC 4180), the column
// names in the first line. Values are in Postgres's own text form, as psql
// prints them under the session's settings. NULL and the empty text are both an
// empty cell.
//
// A cell that a spreadsheet would read as a formula, one that begins with = + -
// @ TAB or CR, gets an apostrophe in front. Columns of a number type (integers,
// real, double precision, numeric) keep their minus sign: -12.5 stays -12.5; the
// same characters in a text column become '-12.5. The names of the columns are
// guarded too.
//
// # What it refuses
//
// A query that writes, whatever the login may do: it runs under a savepoint
// that is read only. More than one statement, and any statement but SELECT, WITH,
// VALUES and TABLE. A query over [MaxQueryBytes].
//
// # Its weakness
//
// A worker that is killed leaves its temporary file, <final name>.<hex>.tmp, in
// the folder; nothing removes it. A row of one single NULL is an empty line,
// which many CSV readers skip. The size of the file is bounded by the timeout
// and the disk only. Read only means what Postgres means by it: temporary tables
// may be written, and before Postgres 16 large objects too.
package report
