// Package relation locks the tables that a statement of the owner's login is going to name, and
// looks at them behind the lock.
//
// Whoever may make things in the application's schema can put a view in a table's place between
// a look and the statement that follows, and the functions of that view then run with the rights
// of the owner's login. Nobody can do so between [Lock] and the transaction's end:
//
//	lock by name ─▶ look by oid ─▶ the caller's own look, by oid ─▶ statements by name
//
//	lock.go    the locks, and the settings of the transaction
//	look.go    what would run with the rights of who names the table
//	allow.go   what expressions may be made of
//
// A lock of a read keeps the name, the columns, their types, rules, policies and constraints. A
// lock of a change keeps triggers, foreign keys and indexes too.
//
// Code counts as nobody's if its owner is a superuser or the session's login: others cannot
// change such code. Functions of Postgres, of extensions and of schema headgate count only if
// they are immutable or listed, because some of them run SQL from a text. Functions that `headgate database protect --trusted-function` has declared
// count too. The settings of the transaction forbid views and foreign tables in a read, on
// servers that know how.
//
// Its weakness: no lock holds a schema's name. Whoever owns a schema and may make schemas in the
// database can exchange two schemas between the look and the statement; what is read then is a
// table still, and no view. An index, statistics on an expression or a partition that somebody
// adds at the same moment is planned with the owner's rights, if its function is immutable and
// has constant arguments only.
package relation
