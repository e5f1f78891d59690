// Package session says what Headgate's sessions in Postgres are set to, whatever
// the defaults of the server, the database or the role are.
//
// A default that nobody pins decides what a value means: which day 04/03 is, how
// bytes are written, in which encoding text arrives. So each setting that can
// change the result of a job stands in one list, [Tenant], and is pinned:
//
//   - on a direct connection by the startup packet ([Pin]). It wins over ALTER
//     ROLE and ALTER DATABASE, and RESET ALL goes back to it;
//   - through a pooler in session mode, which takes few parameters, by the first
//     statement ([Whole]), and again behind each RESET ALL;
//   - through a pooler in transaction mode in each transaction, by one statement
//     beside its BEGIN ([Local]).
//
// What the application itself chooses stays as it is ([Left] says why). What is
// the operator's brake stays too: a default of read only transactions.
package session

import (
	"fmt"
	"slices"
	"strings"
)

// Setting is one row of the list.
type Setting struct {
	Name  string
	Value string // as SHOW prints it
	Why   string // what another value changes
}

// formats decide what a value means on its way in and out.
var formats = []Setting{
	{"client_encoding", "UTF8", "text arrives and leaves as UTF-8; the server converts it to the database's own encoding"},
	{"DateStyle", "ISO, MDY", "dates are written year first, and 04/03 is read as in Postgres without settings"},
	{"IntervalStyle", "postgres", "intervals are written in one way, and the sign of -1 day 2 hours is read in one way"},
	{"TimeZone", "UTC", "now()::date and times without a zone mean the same everywhere"},
	{"timezone_abbreviations", "Default", "IST is one zone"},
	{"bytea_output", "hex", "bytes are written in one way"},
	{"extra_float_digits", "1", "floating-point numbers are written whole"},
	{"standard_conforming_strings", "on", "a backslash in '…' is a backslash"},
	{"backslash_quote", "safe_encoding", `\' in E'…' is a quote`},
	{"array_nulls", "on", "NULL in the text of an array is a null"},
	{"transform_null_equals", "off", "x = NULL is not x IS NULL"},
	{"xmlbinary", "base64", "bytes in XML are written in one way"},
	{"xmloption", "content", "a fragment of XML is valid"},
	{"quote_all_identifiers", "off", "names of tables are written in one way"},
	{"gin_fuzzy_search_limit", "0", "a full-text search finds all rows, not a random part"},
	{"client_min_messages", "notice", "warnings arrive: ANALYZE and VACUUM say by them what they skipped"},
}

// transactions decide what a transaction may do and see.
var transactions = []Setting{
	{"default_transaction_isolation", "read committed", "statements see what has committed; a stricter level fails jobs with 40001"},
	{"default_transaction_deferrable", "off", "a transaction begins at once"},
	{"row_security", "on", "policies filter rows; off makes every query of a guarded table an error"},
	{"check_function_bodies", "on", "a wrong function is refused when Headgate's schema is installed"},
}

// timeouts bound what holds others up. A job's own are set when it begins.
var timeouts = []Setting{
	{"statement_timeout", "0", "each statement has a deadline of the worker's, and a job the timeout of its kind"},
	{"lock_timeout", "5s", "nobody waits behind a lock for long"},
	{"idle_in_transaction_session_timeout", "5s", "a client that freezes in a transaction holds its locks for seconds"},
}

// Tenant is what a session in a tenant's database is set to.
var Tenant = slices.Concat(formats, transactions, timeouts)

// Central is what a session of a worker in the central database is set to.
var Central = slices.Concat(formats, transactions, timeouts, []Setting{
	{"idle_session_timeout", "0", "a worker that waits for work keeps its sessions"},
})

// Left is what a session takes from the server, the database or the role on
// purpose. Value is empty.
var Left = []Setting{
	{Name: "search_path", Why: "a handler means the tables that its application means; what Headgate runs with the owner's rights has a path of its own (OwnPath), or names everything in full"},
	{Name: "role", Why: "a login that becomes its group owns what it makes as the group; rights are checked as the role that the session has"},
	{Name: "default_transaction_read_only", Why: "it is the brake of an operator or a host whose disk is full: jobs that write wait (class read_only) until it is off"},
	{Name: "synchronous_commit", Why: "on, local, remote_write and remote_apply are the operator's; off is raised to on where a ledger row is written"},
	{Name: "lc_messages, lc_monetary, lc_numeric, lc_time", Why: "what a value of type money means follows from the database's own"},
	{Name: "default_text_search_config", Why: "an application's indexes and queries agree on it"},
	{Name: "default_tablespace, temp_tablespaces, default_table_access_method", Why: "where rows are stored changes no result"},
}

// OwnPath has names and operators without a schema mean Postgres's own until the transaction
// ends. Under the application's search_path a function of the application's could be taken
// for one of Postgres's, and would run with the rights of Headgate's login.
const OwnPath = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)`

// OwnPathForSession is [OwnPath] for a session that runs nothing of the application's.
const OwnPathForSession = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)`

// Begin starts a transaction of ours, at the level that all of Headgate's SQL is
// written for.
const Begin = "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE"

// BeginReadOnly starts a transaction that cannot write.
const BeginReadOnly = Begin + " READ ONLY"

// Pin puts settings into the parameters of a startup packet, over others of the
// same name in any case.
func Pin(params map[string]string, settings []Setting) {
	for _, s := range settings {
		for name := range params {
			if strings.EqualFold(name, s.Name) {
				delete(params, name)
			}
		}
		params[s.Name] = s.Value
	}
}

// PinPooled puts into a startup packet what every pooler takes: PgBouncer refuses
// a connection with other parameters than a handful.
func PinPooled(params map[string]string) { Pin(params, formats[:1]) }

// Unpin takes from a startup packet what not every pooler takes, for who does not
// know yet what stands there.
func Unpin(params map[string]string) {
	for _, s := range Central {
		delete(params, s.Name)
	}
	PinPooled(params)
}

// Local returns a statement that sets those of settings that differ and that the
// server knows, until the transaction ends. It is the first one behind BEGIN.
func Local(settings []Setting) string { return set(settings, "true") }

// Whole is [Local] until the session ends, or is reset: behind a pooler that gives
// each client a session of its own, and takes few parameters.
func Whole(settings []Setting) string { return set(settings, "false") }

func set(settings []Setting, local string) string {
	rows := make([]string, len(settings))
	for i, s := range settings {
		rows[i] = fmt.Sprintf("('%s', '%s')", s.Name, s.Value)
	}
	return `
SELECT pg_catalog.set_config(s.name, s.value, ` + local + `) FROM (VALUES ` + strings.Join(rows, ", ") + `) AS s (name, value)
WHERE pg_catalog.current_setting(s.name, true) OPERATOR(pg_catalog.<>) s.value`
}

// Timeless is what only servers from 17 on know, so that no startup packet can
// name it: what would end a transaction in the middle of its work.
var Timeless = []Setting{{"transaction_timeout", "0", "a job has the timeout of its kind, which says so"}}

// NoTransactionTimeout is Timeless for a session of one's own.
const NoTransactionTimeout = `SET transaction_timeout = 0`

// KnowsTransactionTimeout says whether a server of this version does.
func KnowsTransactionTimeout(version string) bool {
	var major int
	_, err := fmt.Sscanf(version, "%d", &major)
	return err == nil && major >= 17
}
