package catalogcmd

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

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

// setRead tries a read address and stores it, or takes it out. It returns what is replaced.
func setRead(ctx context.Context, tx pgx.Tx, t target, c *catalog.Catalog, database catalog.Database, change change) (replaced string, err error) {
	switch {
	case change.noRead:
		return "", c.Logins().RemoveReadTx(ctx, tx, database.ID)
	case change.read == nil:
		return "", nil
	}
	if err := t.tryRead(ctx, *change.read, database); err != nil {
		return "", err
	}
	return "job login's read address", c.Logins().SetReadTx(ctx, tx, database.ID, *change.read)
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
