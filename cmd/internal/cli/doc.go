// Package cli is what the verbs of a command line stand on. It holds no verb.
//
//	app.go          App: the streams, the environment, the global flags, the logger
//	command.go      how a verb is made: groups, time limits, completion
//	names.go        names from the central database, for completion in shells
//	usage.go        what a user got wrong, and what was probably meant
//	flags.go        flags that several verbs have
//	confirm.go      changes of many tenants are confirmed by their number
//	exit.go         errors to exit codes and sentences
//	central.go      which central database, and the way to it
//	open.go         the central database opened, and the client and catalog on it
//	unreachable.go  why a database cannot be reached, in a sentence
//	lookup.go       names that are not known, and the nearest that are
//	secrets.go      connection strings from the environment, files and stdin
//	output.go       rows as table, json, jsonl and csv; cell.go has one value
//	paragraph.go    sentences; facts.go has those of explain
//	log.go          the logger; signals.go has the context that an interrupt ends
//	version.go      what a program is built on
package cli
