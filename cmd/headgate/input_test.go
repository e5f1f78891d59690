package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// The same rule for the value of a feature wherever one is given, and never Postgres' words.
func TestANumberOfAFeatureIsBounded(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	c.ok("feature", "set", "seats", "--type", "number")
	for _, text := range []string{"null", "1e99999", "1e131071", "-1e41", "0e99999", "1 2", strings.Repeat("9", 41)} {
		for _, args := range [][]string{
			{"feature", "set", "seats", "--default=" + text},
			{"tenant", "feature", "acme", "seats=" + text},
			{"plan", "set", "pro", "--feature", "seats=" + text},
		} {
			c.fails(cli.ExitUsage, args, "it is a number: give one as 12 or 0.5, of up to 40 characters")
		}
		table := filepath.Join(t.TempDir(), "tenants.csv")
		require.NoError(t, os.WriteFile(table, []byte("slug,feature.seats\nacme,"+text+"\n"), 0o600))
		c.fails(cli.ExitUsage, []string{"tenant", "import", table}, "it is a number: give one as 12 or 0.5, of up to 40 characters")
	}
	c.ok("tenant", "feature", "acme", "seats=1e39")
}

// One rule for texts of one line in every verb.
func TestTextsOfOneLine(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db")
	c.ok("feature", "set", "skin", "--type", "string")
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "app.tick", "--cron", "@daily")
	values := map[string][]string{ // PLACE stands for the text
		"plan set":       {"plan", "set", "PLACE"},
		"limit set plan": {"limit", "set", "plan", "PLACE", "--max-running", "1"},
		"tenant add":     {"tenant", "add", "brick", "--database", "db", "--plan", "PLACE"},
		"org_key":        {"tenant", "add", "brick", "--database", "db", "--org-key", "PLACE"},
		"label":          {"tenant", "add", "brick", "--database", "db", "--label", "a=PLACE"},
		"brand":          {"tenant", "brand", "set", "acme", "1", "PLACE"},
		"feature":        {"tenant", "feature", "acme", "skin=PLACE"},
		"default":        {"feature", "set", "skin", "--default", "PLACE"},
	}
	notes := map[string][]string{
		"pause":          {"pause", "tenant", "acme", "--note", "PLACE"},
		"schedule pause": {"schedule", "pause", "nightly", "--tenant", "acme", "--note", "PLACE"},
		"suspend":        {"tenant", "suspend", "acme", "--reason", "PLACE"},
		"any verb":       {"plan", "set", "pro", "--reason", "PLACE"},
		"region":         {"region", "add", "eu", "--note", "PLACE"},
	}
	refused := func(args []string, text, says string) {
		t.Helper()
		args = append([]string{}, args...)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "PLACE", text)
		}
		c.fails(cli.ExitUsage, args, says)
	}
	for _, args := range values {
		refused(args, "a\u200db", "the invisible character U+200D is not allowed")
		refused(args, strings.Repeat("x", 201), "characters is too long; at most ")
	}
	for _, args := range notes {
		refused(args, strings.Repeat("x", 501), "501 characters is too long; at most ")
	}
	for _, all := range []map[string][]string{values, notes} {
		for _, args := range all {
			refused(args, "a\x1b[31m", "control characters and invalid UTF-8 are not allowed")
			refused(args, "a\u200b", "the invisible character U+200B is not allowed")
			refused(args, "\u202ea", "the invisible character U+202E is not allowed")
			refused(args, "a\u2028b", "the invisible character U+2028 is not allowed")
			refused(args, "\u00a0", "there are blanks alone: give a text, or none")
		}
	}
	require.NotContains(t, c.ok("plan", "list", "-o", "json"), `"pro"`)
	refused(values["limit set plan"], strings.Repeat("x", 64), "plan: 64 characters is too long; at most 63 are allowed")
}
