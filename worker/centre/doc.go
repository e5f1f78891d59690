// Package centre is a worker's central database as tenant databases know it.
//
// A tenant database belongs to one central database and bears its mark and its last
// token. Two that work the same tenants would fire each schedule twice, so whoever finds
// another mark, or a token that it does not know, leaves the database alone:
//
//	mark  token     who asks
//	none  none      takes it: nobody has worked there before
//	ours  known     works, and leaves its newest token, once an hour
//	ours  expired   the same: the database was at rest for more than 90 days
//	ours  unknown   a base backup that was started beside us has been there, or we are it
//	other any       a restored dump, a copy by TEMPLATE, a move to another server
//
// The last two are wrong_centre until an operator adopts the database. Which of two base
// backups of one history is the right one nobody can know: whoever leaves its token
// first goes on, and the other one waits and is told. Its weakness is the time until
// then: a copy that has not been beaten to a token, an hour and ten minutes at most.
package centre
