package jobstest

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

var statement = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s`)

// PrepareQueries lets Postgres PREPARE every SQL constant of the Go package in
// dir, so that no query waits for its first use to turn out wrong: names, types
// and parameters are checked against db's schema. Constants are found in the
// source; those in skip are about another database. It fails if it finds none.
func PrepareQueries(t testing.TB, dir string, db *pgxpool.Pool, skip ...string) {
	t.Helper()
	queries := queriesIn(t, dir)
	if len(queries) == 0 {
		t.Fatalf("no SQL constant found in %s", dir)
	}
	ctx, cancel := deadline()
	defer cancel()
	for name, sql := range queries {
		if !contains(skip, name) {
			prepare(ctx, t, db, name, sql)
		}
	}
}

func prepare(ctx context.Context, t testing.TB, db *pgxpool.Pool, name, sql string) {
	t.Helper()
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Conn().PgConn().Prepare(ctx, "hg_check_"+strings.ToLower(name), sql, nil); err != nil {
		t.Errorf("%s does not prepare: %v\n%s", name, err, sql)
	}
}

// queriesIn returns the string constants that read like a statement, by name.
func queriesIn(t testing.TB, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file) //nolint:gosec // the caller's own source
		if err != nil {
			t.Fatal(err)
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok {
				collect(spec, found)
			}
			return true
		})
	}
	for name, value := range found { // a constant may begin with another one
		for other, text := range found {
			if rest, ok := strings.CutPrefix(value, "\x00"+other+"\x00"); ok {
				found[name] = text + rest
			}
		}
	}
	for name, value := range found {
		if !statement.MatchString(value) {
			delete(found, name)
		}
	}
	return found
}

// collect notes the string constants of one declaration. A name that begins a
// concatenation stands between NUL bytes until it is known.
func collect(spec *ast.ValueSpec, found map[string]string) {
	for i, value := range spec.Values {
		if i < len(spec.Names) {
			if text, ok := textOf(value); ok {
				found[spec.Names[i].Name] = text
			}
		}
	}
}

func textOf(expr ast.Expr) (string, bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		return "\x00" + e.Name + "\x00", true
	case *ast.BinaryExpr:
		left, okLeft := textOf(e.X)
		right, okRight := textOf(e.Y)
		return left + right, okLeft && okRight
	}
	return "", false
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}
