// Package jobstest gives a test real databases: a fresh central database, fresh
// tenant databases with roles and passwords of their own, a catalog that knows
// them, a client, and workers that stop with the test.
//
//	func TestTransfer(t *testing.T) {
//		t.Parallel()
//		env := jobstest.New(t)
//		env.Database("acme", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
//		env.Tenant("acme", "acme")
//		env.Work(nil, func(w *worker.Worker) { worker.InTx(w, Transfer) })
//		outcome := env.Run("acme", TransferArgs{From: 1, To: 2, Amount: 5})
//		…
//	}
//
// Databases are cloned from a template that is made once on each server, some
// 20 ms a database. The server is the one that HEADGATE_TEST_SERVER names (a
// superuser's connection string), else a private Postgres that this process
// starts (package localpg) and that ends with it. Databases are dropped at the
// end of a test; with KEEP_DB=1 those of a failed test stay.
//
// Everything here fails the test through t; nothing returns an error. Databases are made
// and dropped by package testbed, which programs can use too.
package jobstest
