package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// However many tenants there are, the busy ones and those that fail are shown, few others
// are, and a name that was shown stays for an hour.
func TestTopTenants(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	c := &topTenants{now: func() time.Time { return now }, all: map[string]*tenantCount{}}
	for i := range 100_000 {
		c.count(fmt.Sprintf("quiet-%d", i%10_000), false)
		if i%10 == 0 {
			c.count(fmt.Sprintf("busy-%d", i/10%10), false)
		}
		if i%100 == 0 {
			c.count("ill", true)
		}
	}
	c.count("", true)
	require.LessOrEqual(t, len(c.all), counted)
	names := func() (all []string) {
		for _, s := range c.shown() {
			all = append(all, s.slug)
		}
		return all
	}
	require.Contains(t, names(), "ill")
	require.LessOrEqual(t, len(names()), 2*shownEach)
	before := names()
	for n := range counted + 100 { // more than there is room for, and each is busier than all before
		for i := range 2000 {
			c.count(fmt.Sprintf("later-%d", n), i%2 == 0)
		}
	}
	require.Subset(t, names(), before, "for an hour")
	now = now.Add(shownFor + time.Second)
	after := names()
	require.LessOrEqual(t, len(after), 2*shownEach)
	require.True(t, slices.ContainsFunc(after, func(s string) bool { return strings.HasPrefix(s, "later-") }))

	for i := range 2000 { // a busy one comes last, between many that come once
		c.count("late", false)
		c.count(fmt.Sprintf("once-%d", i), false)
	}
	require.NotNil(t, c.all["late"])
	require.GreaterOrEqual(t, c.all["late"].attempts, int64(2000))
	(*topTenants)(nil).count("nobody", true)
}
