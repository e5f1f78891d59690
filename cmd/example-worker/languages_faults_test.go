//go:build faults

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What docs/enqueue-from-sql.md shows for Python and Node works there, and everything else is
// refused there too. Both are looked for by .ci/faults.
func TestFaultsEnqueueFromPythonAndNode(t *testing.T) {
	for _, language := range []struct{ heading, block, file, program, refused string }{
		{"Python", "python", "enqueue.py", "python3", `
import os, sys, psycopg
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    for statement in sys.stdin.read().split(";\n"):
        try:
            connection.execute(statement)
            print("00000")
        except psycopg.Error as error:
            print(error.sqlstate)
`},
		{"Node", "js", "enqueue.js", "node", `
const { Client } = require("pg");
(async () => {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  for (const statement of require("fs").readFileSync(0, "utf8").split(";\n")) {
    try { await client.query(statement); console.log("00000"); } catch (error) { console.log(error.code); }
  }
  await client.end();
})();
`},
	} {
		t.Run(language.heading, func(t *testing.T) {
			env, _, url := shop(t)
			dir := t.TempDir()
			run := func(code, stdin string) string {
				file := filepath.Join(dir, language.file)
				require.NoError(t, os.WriteFile(file, []byte(code), 0o600))
				cmd := exec.CommandContext(t.Context(), language.program, file)
				cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
				cmd.Stdin = strings.NewReader(stdin)
				output, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", output)
				return string(output)
			}
			enqueuesOnce(t, env, func() string { return run(blockOf(t, language.heading, language.block), "") })
			refusedAs(t, strings.Fields(run(language.refused, strings.Join(refusals(), ";\n"))))
		})
	}
}
