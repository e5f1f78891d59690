// Package roomtest is what the tests of the orchestrator's rooms have in common: kinds of
// jobs that nobody works, a central database with tenants, and rows in the states that
// River and its workers would leave them in.
package roomtest
