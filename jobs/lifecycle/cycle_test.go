package lifecycle_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/lifecycle"
)

// counted is a cycle that counts what it does, and fails as it is told to.
type counted struct {
	*lifecycle.Cycle
	begun, looped, ended int
	begin, end           error
	over                 bool          // though end failed
	loops                chan struct{} // has one for each loop
	leave                chan error    // ends the loop by itself
}

func count() *counted {
	c := &counted{loops: make(chan struct{}, 9), leave: make(chan error, 1)}
	c.Cycle = lifecycle.New(lifecycle.Parts{
		Name:  "the clock",
		Begin: func(context.Context) error { c.begun++; return c.begin },
		Loop: func(ctx context.Context) error {
			c.looped++
			c.loops <- struct{}{}
			select {
			case <-ctx.Done():
				return nil
			case err := <-c.leave:
				return err
			}
		},
		End: func(context.Context) (bool, error) { c.ended++; return c.end == nil || c.over, c.end },
	})
	return c
}

var errPlanted = errors.New("planted")

func TestStartSaysNoToASecondStart(t *testing.T) {
	t.Parallel()
	c := count()
	require.NoError(t, c.Start(t.Context()))
	require.ErrorIs(t, c.Start(t.Context()), lifecycle.ErrRunning)
	require.EqualError(t, c.Start(t.Context()), "starting the clock: it runs already: stop it first")
	require.NoError(t, c.Stop(t.Context()))
	require.Equal(t, []int{1, 1, 1}, []int{c.begun, c.looped, c.ended})
}

func TestStartWorksAfterStopAndAfterAFailure(t *testing.T) {
	t.Parallel()
	c := count()
	c.begin = errPlanted
	require.Equal(t, errPlanted, c.Start(t.Context()))
	require.NoError(t, c.Stop(t.Context()))
	require.Zero(t, c.looped+c.ended, "what has not begun does not end")
	c.begin = nil
	for range 2 {
		require.NoError(t, c.Start(t.Context()))
		require.NoError(t, c.Stop(t.Context()))
		require.NoError(t, c.Stop(t.Context()))
	}
	require.Equal(t, []int{3, 2, 2}, []int{c.begun, c.looped, c.ended})
}

// A context that has ended starts nothing, and one that ends later stops nothing.
func TestTheContextOfStartIsForStartingOnly(t *testing.T) {
	t.Parallel()
	c := count()
	ctx, cancel := context.WithCancelCause(t.Context())
	require.NoError(t, c.Start(ctx))
	cancel(errPlanted)
	require.ErrorIs(t, c.Start(t.Context()), lifecycle.ErrRunning)
	require.NoError(t, c.Stop(t.Context()))
	require.ErrorIs(t, c.Start(ctx), errPlanted)
	require.ErrorIs(t, c.Run(ctx), errPlanted)
	require.Equal(t, 1, c.begun)
}

// A stop that fails is called again until it is over, and nothing starts before.
func TestAStopThatFailsIsCalledAgain(t *testing.T) {
	t.Parallel()
	c := count()
	require.NoError(t, c.Start(t.Context()))
	c.end = errPlanted
	require.Equal(t, errPlanted, c.Stop(t.Context()))
	require.ErrorIs(t, c.Start(t.Context()), lifecycle.ErrRunning)
	c.over = true
	require.Equal(t, errPlanted, c.Stop(t.Context()))
	require.NoError(t, c.Stop(t.Context()), "nothing is left to stop")
	c.end = nil
	require.NoError(t, c.Start(t.Context()))
	require.NoError(t, c.Stop(t.Context()))
}

// Stop waits for a loop that does not watch its context as long as its own allows.
func TestStopWaitsAsLongAsItsContextAllows(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	c := lifecycle.New(lifecycle.Parts{Name: "the deaf", Loop: func(context.Context) error { <-leave; return nil }})
	require.NoError(t, c.Start(t.Context()))
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errPlanted)
	require.EqualError(t, c.Stop(ended), "stopping the deaf: planted")
	require.ErrorIs(t, c.Start(t.Context()), lifecycle.ErrRunning)
	close(leave)
	require.NoError(t, c.Stop(t.Context()))
}

func TestRunReturnsWhy(t *testing.T) {
	t.Parallel()
	run := func(ctx context.Context, c *counted) chan error {
		why := make(chan error, 1)
		go func() { why <- c.Run(ctx) }()
		<-c.loops
		return why
	}
	t.Run("its context has ended", func(t *testing.T) {
		t.Parallel()
		c := count()
		ctx, cancel := context.WithCancel(t.Context())
		why := run(ctx, c)
		cancel()
		require.NoError(t, <-why)
		require.NoError(t, c.Start(t.Context()), "it has stopped")
		require.NoError(t, c.Stop(t.Context()))
	})
	t.Run("somebody has stopped it, and another has started it", func(t *testing.T) {
		t.Parallel()
		c := count()
		why := run(t.Context(), c)
		require.NoError(t, c.Stop(t.Context()))
		require.NoError(t, c.Start(t.Context()))
		require.NoError(t, <-why)
		require.ErrorIs(t, c.Start(t.Context()), lifecycle.ErrRunning, "a Run stops its own loop only")
		require.NoError(t, c.Stop(t.Context()))
	})
	t.Run("the loop has ended, and the stop failed", func(t *testing.T) {
		t.Parallel()
		c := count()
		c.end = errors.New("no end")
		why := run(t.Context(), c)
		c.leave <- errPlanted
		err := <-why
		require.ErrorIs(t, err, errPlanted)
		require.ErrorIs(t, err, c.end)
	})
	t.Run("it could not start", func(t *testing.T) {
		t.Parallel()
		c := count()
		c.begin = errPlanted
		require.Equal(t, errPlanted, c.Run(t.Context()))
	})
}
