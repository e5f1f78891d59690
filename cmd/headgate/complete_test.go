package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// uncompleted walks a tree of commands and says which argument or flag has a name that no
// shell completes.
func uncompleted(cmd *cobra.Command) (wrong []string) {
	for _, sub := range cmd.Commands() {
		if nouns, ok := cli.Completes(sub); !ok {
			wrong = append(wrong, fmt.Sprintf("%s: what its arguments are the names of stands nowhere in cmd/internal/cli/names.go: %s", sub.CommandPath(), sub.Use))
		} else if len(nouns) > 0 && sub.ValidArgsFunction == nil {
			wrong = append(wrong, sub.CommandPath()+": nothing completes its arguments")
		}
		sub.Flags().VisitAll(func(flag *pflag.Flag) {
			if _, has := sub.GetFlagCompletionFunc(flag.Name); !has && flag.NoOptDefVal == "" && namesSomething(flag) {
				wrong = append(wrong, fmt.Sprintf("%s --%s: nothing completes it", sub.CommandPath(), flag.Name))
			}
		})
		wrong = append(wrong, uncompleted(sub)...)
	}
	return wrong
}

// namesSomething goes by a flag's name: what ends with a noun takes its name.
func namesSomething(flag *pflag.Flag) bool {
	if flag.Value.Type() == "int" || flag.Name == "dns-server" {
		return false // a number of them; a host
	}
	words := strings.Split(flag.Name, "-")
	switch words[len(words)-1] {
	case "tenant", "database", "server", "schedule", "kind", "queue", "plan", "template", "calendar", "region", "feature":
		return true
	}
	return false
}

// Every argument and flag that takes the name of something is completed.
func TestEveryNameIsCompleted(t *testing.T) {
	t.Parallel()
	app := cli.New("headgate", strings.NewReader(""), os.Stdout, os.Stderr, nil)
	for _, wrong := range uncompleted(root(app)) {
		t.Error(wrong)
	}
}

// TestEveryNameIsCompletedControl plants what TestEveryNameIsCompleted must notice.
func TestEveryNameIsCompletedControl(t *testing.T) {
	t.Parallel()
	app := cli.New("headgate", strings.NewReader(""), os.Stdout, os.Stderr, nil)
	show := &cobra.Command{Use: "show GADGET", Run: func(*cobra.Command, []string) {}}
	late := &cobra.Command{Use: "late SLUG [--of-tenant TENANT]", Run: func(*cobra.Command, []string) {}}
	late.Flags().String("of-tenant", "", "")
	tree := &cobra.Command{Use: "program"}
	group := cli.Group("gadget", "Gadgets", show)
	tree.AddCommand(group)
	app.CompleteNames(tree)
	group.AddCommand(late)
	require.ElementsMatch(t, []string{
		"program gadget show: what its arguments are the names of stands nowhere in cmd/internal/cli/names.go: show GADGET",
		"program gadget late: nothing completes its arguments",
		"program gadget late --of-tenant: nothing completes it",
	}, uncompleted(tree))
}

// completed are the names that a completion offers; directives are not among them.
func (c *commandLine) completed(args ...string) []string {
	c.t.Helper()
	r := c.run(append([]string{"__complete"}, args...)...)
	require.Equal(c.t, cli.ExitOK, r.code, r.err)
	require.Regexp(c.t, `^Completion ended with directive: \w+\n$`, r.err, "shells leave this line out; there must be no other")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	names := []string{}
	for _, line := range lines[:len(lines)-1] {
		name, _, _ := strings.Cut(line, "\t")
		names = append(names, name)
	}
	return names
}

func TestNamesAreCompleted(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for _, slug := range []string{"acme", "acme-two", "bolt"} {
		env.Tenant(slug, "db")
	}
	env.Tenant("gone", "db")
	_, err := env.Pool.Exec(t.Context(), `UPDATE headgate.tenants SET slug = id::text, status = 'removed' WHERE slug = 'gone'`)
	require.NoError(t, err)
	c.ok("tenant", "add", "many", "--database", "db", "--plan", "pro")
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "invoice", "--cron", "0 3 * * *")
	c.ok("schedule", "create", "nightly", "--tenant", "bolt", "--kind", "invoice", "--cron", "0 3 * * *")
	c.ok("schedule", "create", "hourly", "--tenant", "bolt", "--kind", "invoice", "--cron", "0 * * * *")
	c.ok("schedule", "calendar", "set", "holidays", "--day", "2026-12-25")
	c.ok("schedule", "blackout", "set", "black", "--tenant", "acme", "--span", "SAT,SUN 00:00-24:00")
	server := c.completed("server", "set", "")
	require.Len(t, server, 1)
	tenants := []string{"acme", "acme-two", "bolt", "many"}
	for _, a := range []struct {
		args []string
		want []string
	}{
		{[]string{"tenant", "explain", ""}, tenants},
		{[]string{"tenant", "explain", "ac"}, []string{"acme", "acme-two"}},
		{[]string{"tenant", "explain", "acme-"}, []string{"acme-two"}},
		{[]string{"tenant", "explain", "acme", ""}, []string{}},
		{[]string{"tenant", "explain", "zz"}, []string{}},
		{[]string{"tenant", "explain", "a%"}, []string{}},
		{[]string{"tenant", "explain", "\xff"}, []string{}},
		{[]string{"tenant", "domain", "list", "b"}, []string{"bolt"}},
		{[]string{"tenant", "domain", "add", "b"}, []string{"bolt"}},
		{[]string{"tenant", "domain", "add", "bolt", ""}, []string{}},
		{[]string{"tenant", "add", "a"}, []string{}},
		{[]string{"tenant", "add", "new", "--database", ""}, []string{"db"}},
		{[]string{"tenant", "list", "--plan", ""}, []string{"pro"}},
		{[]string{"tenant", "list", "--plan=p"}, []string{"pro"}},
		{[]string{"database", "set", "d"}, []string{"db"}},
		{[]string{"database", "add", "d"}, []string{}},
		{[]string{"database", "add", "new", "--kind", ""}, []string{"shared", "dedicated"}},
		{[]string{"database", "add", "new", "--server", ""}, server},
		{[]string{"job", "list", "--tenant", "b"}, []string{"bolt"}},
		{[]string{"job", "enqueue", "headgate.v"}, []string{"headgate.vacuum"}},
		{[]string{"schedule", "show", ""}, []string{"hourly", "nightly"}},
		{[]string{"schedule", "pause", "n"}, []string{"nightly"}},
		{[]string{"schedule", "preview", "n"}, []string{"nightly"}},
		{[]string{"schedule", "create", "n"}, []string{}},
		{[]string{"schedule", "calendar", "delete", ""}, []string{"holidays"}},
		{[]string{"schedule", "blackout", "delete", ""}, []string{"black"}},
		{[]string{"schedule", "maintenance-window", "delete", ""}, []string{}},
		{[]string{"serve", "--watch-schedule", "h"}, []string{"hourly"}},
		{[]string{"pause", ""}, []string{"tenant", "kind", "queue", "server"}},
		{[]string{"pause", "tenant", "ac"}, []string{"acme", "acme-two"}},
		{[]string{"limit", "set", "plan", ""}, []string{"pro"}},
		{[]string{"limit", "set", "nonsense", ""}, []string{}},
		{[]string{"limit", "set", "kind", "headgate.r"}, []string{"headgate.report"}},
		{[]string{"enqueue-grant", "add", "someone", "headgate.r"}, []string{"headgate.report"}},
	} {
		require.Subset(t, c.completed(a.args...), a.want, a.args)
		if len(a.args) > 0 && a.args[len(a.args)-1] != "" && len(a.want) > 0 || len(a.want) == 0 {
			require.Len(t, c.completed(a.args...), len(a.want), a.args)
		}
	}

	_, err = env.Catalog.AddTenants(t.Context(), manyTenants(120))
	require.NoError(t, err)
	require.Len(t, c.completed("tenant", "explain", "many-"), 50)
	require.Equal(t, []string{"many-117"}, c.completed("tenant", "explain", "many-117"))
}

func manyTenants(n int) []catalog.TenantParams {
	params := make([]catalog.TenantParams, n)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("many-%d", i), Database: "db"}
	}
	return params
}

// A completion that cannot ask says nothing, asks for nothing and ends, whatever is wrong:
// no central database, one that does not answer, one without the schema, a password file
// that others may read, one that never ends.
func TestACompletionThatCannotAskIsSilent(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	require.Equal(t, []string{"acme"}, c.completed("tenant", "explain", ""))

	deaf, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // it takes connections, and says nothing
	require.NoError(t, err)
	defer func() { _ = deaf.Close() }() // never fails
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.WriteFile(open, []byte(env.URL), 0o644))
	bare := &commandLine{t: t, environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}}
	for name, c := range map[string]*commandLine{
		"none":          bare,
		"deaf":          bare.with("DATABASE_URL", "postgres://u:p@"+deaf.Addr().String()+"/d?sslmode=disable"),
		"refused":       bare.with("DATABASE_URL", "postgres://u:p@127.0.0.1:1/d"),
		"no string":     bare.with("DATABASE_URL", "nonsense"),
		"wrong login":   bare.with("DATABASE_URL", strings.Replace(env.URL, "://", "://nobody-", 1)),
		"never ends":    bare.with("DATABASE_URL_FILE", pipe),
		"no file":       bare.with("DATABASE_URL_FILE", pipe+"-none"),
		"wrong setting": bare.with("DATABASE_URL", env.URL).with("HEADGATE_CENTRAL_POOLER", "nonsense"),
	} {
		t.Run(name, func(t *testing.T) {
			program := *c
			program.t = t
			require.Empty(t, program.completed("tenant", "explain", ""))
			require.Empty(t, program.completed("job", "list", "--tenant", ""))
			if name == "never ends" { // in the shell's own process it would end with that
				end, err := os.OpenFile(pipe, os.O_RDWR, 0)
				require.NoError(t, err)
				require.NoError(t, end.Close())
			}
		})
	}
	require.Equal(t, []string{"acme"}, bare.with("DATABASE_URL_FILE", open).completed("tenant", "explain", ""), "and no warning")
}
