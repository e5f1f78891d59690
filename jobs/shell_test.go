package jobs_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
)

// A shell reads an advised word as the value, whatever the value is, and runs nothing of it.
func TestShellWordIsOneWordOfAShell(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching("[a-zé0-9 '\"$`\\\\;&|<>()*?#~!{}=\\[\\]-]{0,20}").Draw(t, "value")
		printed, err := exec.Command("sh", "-c", "printf %s "+jobs.ShellWord(value)).Output()
		require.NoError(t, err)
		require.Equal(t, value, string(printed))
	})
}

func TestShellWord(t *testing.T) {
	t.Parallel()
	for value, word := range map[string]string{
		"pro": "pro", "": "''", "headgate.*": "'headgate.*'", "a'; touch x; '": `'a'\''; touch x; '\'''`,
		"a\x1b[2J": "VALUE", "a\nb": "VALUE", "\xff": "VALUE", "a\u202eb": "VALUE", strings.Repeat("a", 201): "VALUE",
	} {
		require.Equal(t, word, jobs.ShellWord(value), "%q", value)
	}
}
