// Package pages serves what is opened in a browser: River's own web UI at /river/, on
// loopback only, because the pages ask nobody for a password yet.
//
//	address.go   where the pages may listen
//	server.go    the listener and its bounds
//	guard.go     what stands before every request
//	entrance.go  the one-time address and the cookie that it gives, with writes only
//	river.go     the routes of River's UI that are answered, and how long each may take
//	states.go    how many jobs there are in each state
//	actions.go   cancel, retry, pause, resume: by Headgate's client, never by River's
//	redact.go    what is taken out of the answers
//	log.go       how often what the pages meet is logged
//
// Any local user of the machine reaches loopback. Without writes, all of them may read the
// pages; with writes, only who has opened the one-time address may read or write.
//
// The weakness: a program of another user of this machine that the same browser is led to
// gets the cookie, because browsers send a cookie to every port of a host.
package pages
