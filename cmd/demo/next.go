package main

import "strings"

// afterwards is what to do next when the demo has ended.
const afterwards = `
Next: run make demo at a terminal. It then stays up, and tells how to talk to it.
Your own databases: README.md, "Against your own Postgres".`

// whatNext is how to talk to this very demo while it is up. The indented lines are
// commands, for the repository's folder, and a test carries them out.
//
// The address of the pages lets one browser in. The database's holds a password, and the key opens the catalog. Both were made for this
// run, lead to a server that listens on a socket in a folder of this user's, and are
// gone with it; nobody else's secret is shown.
func (c *cluster) whatNext(tenant, pages string) string {
	return strings.NewReplacer("{url}", c.bed.URL, "{key}", c.bed.Key.Reveal(), "{tenant}", tenant, "{pages}", pages).Replace(`
The service stays up until Ctrl-C. A browser of this machine sees the jobs at

{pages}

in River's own UI. The address works once. Click Completed, open a job, Retry:
it is refused, because its effect is done. Under Queues pause default: a job
that is enqueued below waits, and headgate job explain says why. Resume it.

In another terminal, in this folder:

  export DATABASE_URL='{url}'
  export HEADGATE_KEY='{key}'
  go build -o bin/ ./cmd/headgate ./cmd/example-worker
  bin/headgate tenant list
  bin/headgate tenant explain {tenant}
  bin/headgate schedule list --tenant {tenant}

A kind of your own, served by a worker of your own (cmd/example-worker):

  bin/example-worker &
  bin/headgate job enqueue welcome --tenant {tenant} --args '{"member": "Ines"}'
  bin/headgate job list --kind welcome

To look into the central database: psql "$DATABASE_URL"
Your own databases: README.md, "Against your own Postgres".`)
}
