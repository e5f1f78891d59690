package tenantdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb"
)

// A connection whose tickets are of another time signs good ones again once it has asked
// for the server's time, also in a session that has other settings by then.
func TestAClockThatWasSet(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{})
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		enter := func() error {
			ticket := conn.Ticket(tenantdb.Bearer{Org: place.OrgID, UID: "0190aaaa-0000-7000-8000-000000000001"})
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `SELECT headgate.enter_job($1, $2, 9, '', 0, 0, 0)`, ticket.Text, ticket.MAC)
				return err
			})
		}
		require.NoError(t, enter())
		for _, by := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
			tenantdb.Misjudge(conn, by)
			require.ErrorContains(t, enter(), "the ticket was signed at another time than this", by)
			_, err := conn.Exec(ctx, `SET TimeZone = 'Asia/Tokyo'; SET search_path = nowhere`)
			require.NoError(t, err)
			require.NoError(t, conn.SetClock(ctx))
			require.NoError(t, enter(), by)
		}
		return nil
	}))
}
