package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
)

func TestSeedIsTheSameAgainAndDiffersByTenant(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	titles := map[string]string{}
	for _, tenant := range tenants() {
		tasks := newSeed(tenant, now).tasks(3)
		require.Equal(t, tasks, newSeed(tenant, now).tasks(3))
		all := ""
		for _, task := range tasks {
			all += task.title + "\n"
			require.True(t, task.created.Before(now))
			require.Equal(t, task.status == "done", task.done != nil)
			if task.done != nil {
				require.False(t, task.done.After(now))
			}
		}
		require.Empty(t, titles[all])
		titles[all] = tenant.slug
	}
	require.Len(t, titles, 29)
}

func TestSoonIsSoonButNotTooSoon(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 10_000 {
		now := start.Add(time.Duration(i) * 1_234 * time.Millisecond)
		schedule, err := calendar.Parse(soon(now).Cron, "UTC")
		require.NoError(t, err)
		wait := schedule.Next(now).Sub(now)
		require.Greater(t, wait, time.Second)
		require.LessOrEqual(t, wait, 11*time.Second)
	}
}
