// Package provision makes a tenant's database and its logins on a server with an
// administrator's address, goes on where an earlier run has ended, and removes again what
// an unfinished run has made.
//
//	(nothing) ──▶ intent ──▶ group ──▶ roles ──▶ database ──▶ rights ──▶ schema ──▶ closing ──▶ login ──▶ entry
//	              central    └─────────── as the administrator ───────┘  as owner            as job     central
//
//	plan.go     the statements of each step, as they are run and as --dry-run prints them
//	run.go      the steps one after the other
//	look.go     what of an intent is on the server, and whose it is
//	abandon.go  removing it; contents.go says what in a database is somebody else's
//	scram.go    passwords as the server stores them
//
// # What is ours
//
// A name proves nothing. A role is an intent's if its comment bears the intent's id, and
// the transaction that makes the role writes the comment. A database is an intent's if its
// owner is the intent's role. CREATE DATABASE takes no transaction, and the owner is in the
// same row as the name, so no moment is between the two. Everything else of that name is
// somebody else's, and is refused and left alone.
//
// # Who may go on
//
// A run holds the intent's lock in a session of the central database (catalog.IntentHold) and
// writes each step there, after it has connected to the server and before its first
// statement. Its sessions on the server end when it is silent for half the time after which
// the lock's session ends. So a run that freezes has no session left there when another one
// begins, and no statement of two runs is mixed.
//
// # Its weakness
//
// A CREATE DATABASE whose client has gone runs to its end. The next run finds its database,
// or is told that the database exists; removing the roles waits for it and then fails, and
// the row stays until that is tried again.
package provision
