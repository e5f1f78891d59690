package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// schema is what a job writes into. Both sides write it with the same
// statement and the same login.
const schema = `
CREATE TABLE bench_effects (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id bigint NOT NULL,
    job    bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
GRANT INSERT, SELECT ON bench_effects TO headgate_job`

const insertEffect = `INSERT INTO bench_effects (org_id, job) VALUES ($1, $2)`

// makeBed makes Headgate's central database and the tenant databases of both sides, and
// enters them in the catalog.
func (s *stage) makeBed(ctx context.Context) (err error) {
	s.bed, err = testbed.Open(ctx, testbed.Config{
		Server: s.server, Prefix: "headgate_bench_" + strings.ToLower(rand.Text()[:6]), KeyName: "bench", Conns: centralConns,
	})
	if err != nil {
		return err
	}
	s.later(s.bed.Close)
	opts := testbed.DatabaseOpts{Kind: catalog.KindShared, Schema: schema, Observed: "River's side has no context that a policy could ask for"}
	if s.layout.tenantsEach == 1 {
		opts.Kind, opts.Observed = catalog.KindDedicated, ""
	}
	for i := range s.layout.databases {
		opts.Name = databaseName(i)
		d, err := s.bed.Database(ctx, opts)
		if err != nil {
			return err
		}
		s.tenants = append(s.tenants, d)
	}
	return nil
}

// databaseName is a tenant database in the catalog.
func databaseName(i int) string { return fmt.Sprintf("bench-%d", i+1) }
