package cli

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Who looks for the nearest name and cannot read the names keeps the error there was.
func TestAListingThatFailsHidesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pool, err := pgxpool.New(context.Background(), "postgres://nobody@127.0.0.1:1/none")
	require.NoError(t, err)
	defer pool.Close()
	unknown := fmt.Errorf("%w \"dbs\"", jobs.ErrUnknownDatabase)
	central := Central{Catalog: catalog.New(pool, nil)}
	require.Equal(t, unknown, NearOwner(ctx, central, "", "dbs", unknown))
}
