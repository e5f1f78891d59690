package catalogcmd

import (
	"context"
	"fmt"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// readsOf is what a list shows: where a database's reading kinds may read.
func readsOf(d catalog.Database) string {
	if d.ReadAddress {
		return jobs.Replica.String()
	}
	return jobs.Primary.String()
}

const selectRecovers = `SELECT pg_catalog.pg_is_in_recovery()`

// tryRead is try for a read address, which must lead to a replica.
func (t target) tryRead(ctx context.Context, a address.Address, database catalog.Database) error {
	conn, err := t.connect(ctx, "the job's read", a)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	if err := whoami(ctx, conn, a, database); err != nil {
		return err
	}
	var recovers bool
	if err := conn.QueryRow(ctx, selectRecovers).Scan(&recovers); err != nil {
		return fmt.Errorf("asking %s whether it is a replica: %w", a, err)
	}
	if !recovers {
		return cli.Usagef("the read address %s leads to a server that takes writes: give the address of a replica of it", a)
	}
	return nil
}
