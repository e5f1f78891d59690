package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What a job took counts from when it began, also while it runs.
func TestWorkerTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorkerTime(2)
		short := w.job(0)
		<-time.After(2 * time.Second)
		long := w.job(1)
		<-time.After(time.Second)
		short()
		<-time.After(3 * time.Second)
		seconds, begun := w.byNow()
		require.InDeltaSlice(t, []float64{3, 4}, seconds, 1e-6)
		require.Equal(t, 2, begun)
		long()
		<-time.After(time.Second)
		seconds, _ = w.byNow()
		require.InDeltaSlice(t, []float64{3, 4}, seconds, 1e-6)
	})
}
