package address_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// The strings that providers show are answered with the option to delete, one by one,
// and are taken without them.
func TestStringsOfProviders(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgresql://u:s3cret@ep-cool-1.eu.aws.neon.tech/neondb?sslmode=verify-full&channel_binding=require":    `option "channel_binding" is not allowed: delete it from the connection string; sslmode=verify-full checks the server by its certificate`,
		"postgresql://u:s3cret@ep-cool-1-pooler.eu.aws.neon.tech/neondb?channel_binding=require&sslmode=require": `option "channel_binding" is not allowed: delete it`,
		"postgres://u.ref:s3cret@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true":                      `option "pgbouncer" is not allowed: delete it from the connection string; what stands before the server is said once, with headgate server set NAME --pooler transaction`,
		"postgres://u.ref:s3cret@aws-0-eu.pooler.supabase.com:6543/postgres?connection_limit=1":                  `option "connection_limit" is not allowed: delete it from the connection string; the number of connections belongs to the server's budget`,
		"host=h user=u dbname=d password=s3cret pgbouncer=true":                                                  `option "pgbouncer" is not allowed: delete it`,
	} {
		_, err := address.Parse(dsn)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "s3cret")
	}
	a, err := address.Parse("postgresql://u:s3cret@ep-cool-1.eu.aws.neon.tech/neondb?sslmode=verify-full")
	require.NoError(t, err)
	require.NoError(t, a.Check(address.TLS, []string{"ep-cool-1.eu.aws.neon.tech"}))
}
