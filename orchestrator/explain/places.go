package explain

import (
	"cmp"
	"fmt"
)

// noDatabase is the SQLSTATE of a server that has no database of that name.
const noDatabase = "3D000"

// Elsewhere is what to do about a database that is not where the catalog has it: the server
// has none of that name (SQLSTATE 3D000), or one that bears another identity or none, also because nobody has installed Headgate there.
func Elsewhere(database, sqlstate string) string {
	if sqlstate == noDatabase {
		return fmt.Sprintf("`headgate database reattach %[1]s --dbname DBNAME` if it was renamed, `headgate database reattach %[1]s --server SERVER --host HOST` if it was moved; one that was dropped: make it anew with the statements that `headgate doctor` prints, then `headgate database reattach %[1]s --adopt`", database)
	}
	return fmt.Sprintf("`headgate database reattach %[1]s --adopt` if it was made anew to take the place of that one; if it was moved or renamed, `headgate database reattach %[1]s` with --server, --host or --dbname; if an import has entered it and Headgate was never installed there: `headgate database install %[1]s`", database)
}

// Unanswered is what to do about a server that does not answer. server and hosts may be
// unknown.
func Unanswered(database, server string, hosts []string) string {
	old := "OLD"
	if len(hosts) == 1 {
		old = hosts[0]
	}
	return fmt.Sprintf("see that the server runs; if it has another host name: `headgate server host replace %s %s NEW`; if only this database has moved or has another port: `headgate database reattach %s --server SERVER`, with the addresses in HEADGATE_JOB_URL and HEADGATE_OWNER_URL",
		cmp.Or(server, "SERVER"), old, database)
}
