// Package protection says whether the jobs of one tenant can reach the rows of another in
// a database that tenants share, and changes the database so that they cannot.
//
//	fingerprint.go  one cheap query whose value changes whenever the answer may
//	inspect.go      Inspect: the full check, and its report
//	login.go        what the job login is, and which roles it can act as
//	relation.go     the tables, views and sequences that it may touch
//	guard.go        whether a table's policies hold it to one organisation
//	expression.go   reads the expressions of policies and of our own views
//	view.go         the same for views
//	function.go     functions that run with another's rights
//	door.go         what leads past policies without a relation
//	own.go          its rights on Headgate's own tables, against what migrations grant
//	declaration.go  what the owner has declared (headgate.protected)
//	remedy.go       the command that mends a finding
//
//	request.go      what `headgate database protect` is asked for
//	facts.go        what Plan must know of the relations that are named
//	plan.go         Plan: the statements, and what they cost the application
//	brand.go        whether a table keeps a tenant's brands apart, and the statements for that
//	policy.go       the statements for tables; shown.go those for our own views
//	harm.go         what the application may notice
//	apply.go        Apply: all statements in one transaction, and the check behind them
//
// # What is judged
//
// A job login reaches rows by its own rights, by those of headgate_job, of each role that
// it inherits, and of PUBLIC. Every relation that it may touch is guarded, or is reached
// through a guarded parent, or is declared: anything else is a finding. Guarded means that
// each policy's expression can be read as "the organisation column equals
// headgate.current_org()", for a RESTRICTIVE policy or for all permissive ones, for each
// command that the login may run.
//
// What cannot be judged is named and not guessed: bodies of functions that run with their
// owner's rights, views that do, rules, expressions of another form.
//
// # Weaknesses
//
// Row-level security does not hide that a value is taken: unique and foreign keys tell.
// Large objects, advisory locks, notifications and pg_stat_activity belong to no table and
// are not judged. A declaration holds for a name, also when the object behind it is made
// anew.
package protection
