package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

type plain struct{}

func (plain) Kind() string { return "plain" }

type tuned struct{ plain }

func (tuned) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Scope: jobs.ScopeDatabase, Timeout: time.Minute}
}

func TestKindOptsOf(t *testing.T) {
	t.Parallel()
	require.Zero(t, jobs.KindOptsOf(plain{}))
	require.Equal(t, jobs.ScopeDatabase, jobs.KindOptsOf(tuned{}).Scope)
}

func TestTenantInTheContext(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, err := jobs.TenantFrom(ctx)
	require.ErrorIs(t, err, jobs.ErrNoTenant)
	_, err = jobs.TenantFrom(jobs.WithTenant(ctx, ""))
	require.ErrorIs(t, err, jobs.ErrNoTenant)
	name, err := jobs.TenantFrom(jobs.WithTenant(ctx, "acme"))
	require.NoError(t, err)
	require.Equal(t, "acme", name)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	gone := errors.New("the customer left")
	err := fmt.Errorf("closing the account: %w", jobs.Cancel(gone))
	var cancel *jobs.CancelError
	require.ErrorAs(t, err, &cancel)
	require.ErrorIs(t, err, gone)
	require.EqualError(t, jobs.Cancel(nil), "cancelled by its handler")

	var snooze *jobs.SnoozeError
	require.ErrorAs(t, jobs.Snooze(-time.Second), &snooze)
	require.Zero(t, snooze.For, "a negative wait is none")
}

func TestCancelRequest(t *testing.T) {
	t.Parallel()
	require.Equal(t, "cancelled", jobs.CancelRequest{}.String())
	require.Equal(t, "cancelled by ana: sent twice", jobs.CancelRequest{By: "ana", Reason: "sent twice"}.String())
}
