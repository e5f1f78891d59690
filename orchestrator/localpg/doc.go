// Package localpg runs a private Postgres from the machine's own binaries: the
// database of somebody who has none at hand, and of the tests.
//
// It looks for the binaries, makes a cluster with a random superuser password,
// starts it on a unix socket, and takes it down again, also when this process
// is killed:
//
//	          Start                               Stop
//	(nothing) ─────▶ binaries ─▶ directory ─▶ initdb ─▶ running ─────▶ (nothing, or Dir)
//	                    │            │           ▲       │   ▲
//	                    │ none here  │ Dir with  │       └───┘
//	                    ▼            │ data      │      Restart
//	                  fetched        └───────────┘
//
// What it refuses: Postgres older than 14, a directory that holds something
// else, a download whose hash is not the one in this source, and to fetch
// anything at all when told not to. It never listens beyond loopback.
//
// Its weakness: outside Linux the server's tie to this process is a small shell
// process on a pipe; whoever kills that one too leaves an orphan behind. A
// temporary server runs with fsync off: it survives the death of its processes,
// not of the machine.
package localpg
