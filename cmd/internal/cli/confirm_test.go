package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
)

// The number of tenants must be given where it is more than fifty, and be right also
// where it need not be given.
func TestWhichNumbersAreConfirmed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		given, tenants int
		yes, passes    bool
	}{
		{0, 0, false, true}, {0, 50, false, true}, {0, 51, false, false}, {0, 51, true, true},
		{-1, 0, false, true}, {-1, 1, false, false}, // 0 is given
		{3, 3, false, true}, {7, 3, false, false}, {7, 3, true, true},
		{50, 51, false, false}, {51, 51, false, true}, {52, 51, false, false}, {1, 0, false, false},
	} {
		given := &c.given
		switch c.given {
		case 0:
			given = nil
		case -1:
			*given = 0
		}
		err := (&Confirmation{tenants: given, yes: c.yes}).Check("plan=pro matches")(c.tenants)
		require.Equal(t, c.passes, err == nil, "%+v: %v", c, err)
		if err != nil {
			require.ErrorContains(t, err, fmt.Sprintf("pass --confirm %d (nothing was changed)", c.tenants))
		}
	}
}

// What is typed is the answer to the tenants that were shown: others, as many, are not
// changed.
func TestOthersThanThoseShownAreNotConfirmed(t *testing.T) {
	t.Parallel()
	two := 2
	c := &Confirmation{tenants: &two}
	check := c.CheckNames("plan = free selects")
	require.NoError(t, check([]string{"acme", "brick"}))
	require.NoError(t, check([]string{"acme", "brick"}))
	err := check([]string{"acme", "crane"})
	require.ErrorIs(t, err, catalog.ErrChanged)
	require.ErrorContains(t, err, "plan = free selects others now, as many as before; nothing was changed")
	require.ErrorContains(t, check([]string{"acme"}), "plan = free selects 1 tenant, not the 2 of --confirm")
}

// A login that was refused is told from a server that is not there, whoever says so; what
// is wrong with the command is told from its end by Ctrl-C.
func TestWhichExitCodeAnErrorHas(t *testing.T) {
	t.Parallel()
	refused := func(class jobs.Class) error {
		return fmt.Errorf("connecting: %w", &tenantdb.ConnectError{Class: class, Err: errors.New("SASL authentication failed")}) // a pooler's words, without a code
	}
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("interrupted"))
	for _, c := range []struct {
		err           error
		code, stopped int // also of a command that Ctrl-C has ended
	}{
		{nil, ExitOK, ExitOK},
		{errors.New("whatever"), ExitFailed, ExitInterrupted},
		{Usagef("that is not 7"), ExitUsage, ExitUsage},
		{refused(jobs.ClassAuthFailed), ExitNotPermitted, ExitInterrupted},
		{refused(jobs.ClassUnreachable), ExitUnreachable, ExitInterrupted},
		{&pgconn.PgError{Code: "28P01"}, ExitNotPermitted, ExitInterrupted},
		{&pgconn.PgError{Code: "57P03"}, ExitUnreachable, ExitInterrupted},
		{context.DeadlineExceeded, ExitTimeout, ExitInterrupted},
		{&ChildError{Code: 17}, 17, 17},
	} {
		app := New("headgate", nil, &bytes.Buffer{}, &bytes.Buffer{}, nil)
		require.Equal(t, c.code, app.end(context.Background(), c.err), "%v", c.err)
		require.Equal(t, c.stopped, app.end(ended, c.err), "interrupted: %v", c.err)
	}
}
