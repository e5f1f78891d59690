package sqlscript

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs/internal/sqltext"
)

// allowed are the commands of a SQL job, by their first word. What is not here is
// refused, so that a text which this package reads wrongly is refused too.
var allowed = words("select", "insert", "update", "delete", "merge", "with", "values", "table",
	"create", "alter", "drop", "truncate", "comment", "grant", "revoke", "refresh", "lock", "analyze", "analyse",
	"explain", "show", "call", "do", "notify")

// Commands that deserve more than "no command of a SQL job".
var (
	control    = words("commit", "end", "rollback", "abort", "begin", "start", "savepoint", "release")
	connection = words("listen", "unlisten", "prepare", "execute", "deallocate", "discard", "declare", "fetch", "move", "close", "load")
	upkeep     = words("reindex", "cluster", "reassign", "security", "import", "checkpoint")
)

// serverWide are the objects that no SQL job creates, alters or drops: a job's
// login could change its own password or settings, and so those of all tenants
// of the database.
var serverWide = words("role", "user", "group", "database", "tablespace", "system", "owned")

// Settings that SET LOCAL may not touch, by the first words of their names. LOCAL
// does not keep TRANSACTION and SESSION AUTHORIZATION from being what they are.
var (
	controlSettings  = words("transaction", "transaction_isolation", "transaction_read_only", "transaction_deferrable")
	contextSettings  = words("role", "session", "session_authorization", "headgate", "row_security")
	encodingSettings = words("client_encoding", "names")
)

// Reasons; %s is the command.
const (
	whyControl    = "transaction control is not allowed in a SQL job: remove %s; the job commits when all its statements have succeeded"
	whyContext    = "tenant context changed by job SQL: %s is not allowed; Headgate sets the role and the organisation of a job"
	whyConnection = "%s is not allowed in a SQL job: it acts on the connection, which other jobs use afterwards"
	whySet        = whyConnection + "; write SET LOCAL, which ends with the job"
	whyEncoding   = "%s is not allowed in a SQL job: its text is read as UTF-8"
	whyOwners     = "%s is not allowed in a SQL job: roles, databases and their upkeep are for the owner or the administrator"
	whyCopy       = "%s is not allowed in a SQL job: it needs a stream of data or a file of the server; write INSERT, or use the kind headgate.report"
	whyVacuum     = "%s cannot run in a transaction: use the kind headgate.vacuum"
	whyUnknown    = "%.60s is no command of a SQL job: write SELECT, INSERT, UPDATE, DELETE or another that changes this database's rows or tables"
)

// refusal says why a text may not be a statement of a SQL job, "" if it may. It
// judges by the first words; that nothing comes after the command is for Postgres
// to see to.
func refusal(sql string) string {
	s := sqltext.Scanner{Rest: sql}
	first := s.Word()
	start := s.At
	second, third := s.Word(), s.Word()
	switch {
	case first == "" && start == "":
		return "it is empty: write one command"
	case first == "":
		return fmt.Sprintf("it begins with %.20q, which is no command", start)
	case first == "set":
		return refuseSet(second, third)
	case control[first]:
		return because(whyControl, first)
	case first == "prepare" && second == "transaction":
		return because(whyControl, first, second)
	case first == "reset":
		return because(whyContext, first, second)
	case connection[first]:
		return because(whyConnection, first)
	case serverWide[second] && (first == "create" || first == "alter" || first == "drop"):
		return because(whyOwners, first, second)
	case upkeep[first]:
		return because(whyOwners, first)
	case first == "copy":
		return because(whyCopy, first)
	case first == "vacuum":
		return because(whyVacuum, first)
	case !allowed[first]:
		return because(whyUnknown, first)
	}
	return ""
}

// refuseSet judges what follows SET: only SET LOCAL and SET CONSTRAINTS end with
// the transaction.
func refuseSet(second, third string) string {
	local, name := second == "local", second
	if local || second == "session" {
		name = third
	}
	switch {
	case second == "constraints":
		return ""
	case controlSettings[name], name == "characteristics":
		return because(whyControl, "set", name)
	case contextSettings[name], name == "authorization":
		return because(whyContext, "set", name)
	case !local:
		return because(whySet, "set", name)
	case encodingSettings[name]:
		return because(whyEncoding, "set", name)
	case name == "":
		return "SET LOCAL: write the setting's name without quotes"
	}
	return ""
}

// because is a reason with the command in capitals.
func because(why string, command ...string) string {
	return fmt.Sprintf(why, strings.ToUpper(strings.TrimSpace(strings.Join(command, " "))))
}

func words(list ...string) map[string]bool {
	all := make(map[string]bool, len(list))
	for _, word := range list {
		all[word] = true
	}
	return all
}
