package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/explain"
)

// Figures that are old tell of workers that are gone, beside processes that know better: of
// these only the age is given.
func TestOldFiguresAreNotGiven(t *testing.T) {
	t.Parallel()
	m, err := newMetrics(t.Context(), nil)
	require.NoError(t, err)
	server := httptest.NewServer(m.handler())
	defer server.Close()
	at := time.Now()
	f := &figures{log: slog.Default(), born: at, look: func(context.Context, explain.FiguresParams) (explain.Figures, bool, error) {
		return explain.Figures{At: at, Workers: explain.WorkerHealth{Alive: 3}}, true, nil
	}}
	defer f.end()
	require.NoError(t, f.observe(m.provider))
	addr := strings.TrimPrefix(server.URL, "http://")
	const live = `headgate_workers{headgate_state="live"} 3`
	require.Contains(t, scrape(t, addr), live, "the control")
	f.mu.Lock()
	f.last.At = at.Add(-figuresTrusted)
	f.mu.Unlock()
	text := scrape(t, addr)
	require.NotContains(t, text, "headgate_workers")
	require.Contains(t, text, "headgate_central_figures_age_seconds 12")
}

// The last success of a schedule that could not be looked for is as old as it was, and what
// has passed since.
func TestASuccessThatWasFoundStays(t *testing.T) {
	t.Parallel()
	at := time.Now()
	found := []explain.Figures{
		{At: at, Successes: map[string]time.Duration{"nightly": time.Hour}, Watched: map[string]int{"nightly": 2}},
		{At: at.Add(time.Minute), Missing: map[string]error{explain.FigureSuccesses: errors.New("it took too long")}},
	}
	f := &figures{log: slog.Default(), look: func(context.Context, explain.FiguresParams) (explain.Figures, bool, error) {
		next := found[0]
		found = found[1:]
		return next, true, nil
	}}
	for range 2 {
		f.tried = time.Time{}
		f.now()
	}
	require.Empty(t, found)
	require.Equal(t, map[string]time.Duration{"nightly": time.Hour + time.Minute}, f.last.Successes)
	require.Equal(t, map[string]int{"nightly": 2}, f.last.Watched)
	require.Contains(t, f.last.Missing, explain.FigureSuccesses, "and it is told")
}
