package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// rulesFile is deploy/prometheus/headgate.rules.yml.
type rulesFile struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Expr        string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func deployed(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	require.NoError(t, err)
	return text
}

func readRules(t *testing.T) (rules rulesFile) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal(deployed(t, "prometheus", "headgate.rules.yml"), &rules))
	require.Len(t, rules.Groups, 1)
	return rules
}

// dashboardQueries are the queries of deploy/grafana/headgate.json, by their panel's title.
func dashboardQueries(t *testing.T) map[string][]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title       string
			Type        string
			Description string
			Targets     []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(deployed(t, "grafana", "headgate.json"), &dashboard))
	queries := map[string][]string{}
	for _, p := range dashboard.Panels {
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotContains(t, queries, p.Title)
		for _, target := range p.Targets {
			queries[p.Title] = append(queries[p.Title], target.Expr)
		}
		require.NotEmpty(t, queries[p.Title], p.Title)
	}
	return queries
}

var (
	seriesNames = regexp.MustCompile(`\bheadgate_[a-z_]+`)
	suffixes    = regexp.MustCompile(`(_seconds)?(_total|_bucket|_count|_sum)?$`)
)

// unknownNames are the names in a query that are neither a metric of ours nor a label.
func unknownNames(query string, metrics, labels []string) (unknown []string) {
	for _, name := range seriesNames.FindAllString(query, -1) {
		if !slices.Contains(metrics, suffixes.ReplaceAllString(name, "")) && !slices.Contains(labels, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// Each alert is made of metrics that exist, has a series on which it fires, and a section
// in the runbook; and the runbook has no section of an alert that is gone. The dashboard is
// made of metrics that exist.
func TestAlertsAndDashboard(t *testing.T) {
	t.Parallel()
	metrics := metricNames(t)
	labels := []string{"headgate_kind", "headgate_queue", "headgate_state", "headgate_class", "headgate_server", "headgate_outcome", "headgate_loop", "headgate_reason", "headgate_answer", "headgate_schedule", "headgate_figure"}
	runbook, err := os.ReadFile(filepath.Join("..", "..", "docs", "runbook.md"))
	require.NoError(t, err)
	tests := string(deployed(t, "prometheus", "headgate.rules.test.yml"))
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(runbook), -1) {
		sections = append(sections, m[1])
	}
	var alerts []string
	for _, r := range readRules(t).Groups[0].Rules {
		alerts = append(alerts, r.Alert)
		require.Empty(t, unknownNames(r.Expr, metrics, labels), r.Alert)
		require.Contains(t, []string{"warning", "critical"}, r.Labels["severity"], r.Alert)
		require.Equal(t, "docs/runbook.md#"+strings.ToLower(r.Alert), r.Annotations["runbook"])
		require.NotEmpty(t, r.Annotations["summary"])
		require.NotEmpty(t, r.Annotations["description"])
		require.Contains(t, tests, "  - name: "+r.Alert+"\n", "no series shows that it fires")
	}
	require.Equal(t, sections, alerts)
	for title, queries := range dashboardQueries(t) {
		for _, q := range queries {
			require.Empty(t, unknownNames(q, metrics, labels), title)
		}
	}
	require.Equal(t, []string{"headgate_attemptz_total"}, unknownNames(`sum(headgate_attemptz_total{headgate_kind="x"})`, metrics, labels), "the control")
}
