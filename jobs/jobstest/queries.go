package jobstest

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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
	found, queries := constantsIn(t, dir), map[string]string{}
	for name, value := range found {
		if sql := resolve(t, dir, found, value); statement.MatchString(sql) {
			queries[name] = sql
		}
	}
	return queries
}

// constantsIn returns the string constants of the package in dir. A name within
// a concatenation stands between NUL bytes until it is resolved.
func constantsIn(t testing.TB, dir string) map[string]string {
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
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
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
	return found
}

var nameInside = regexp.MustCompile("\x00([^\x00]*)\x00")

// resolve puts values in the place of names: those of the package itself, and
// those of a package of this module, NAME.Constant, which is looked for by its
// folder's name.
func resolve(t testing.TB, dir string, found map[string]string, value string) string {
	t.Helper()
	return nameInside.ReplaceAllStringFunc(value, func(name string) string {
		name = strings.Trim(name, "\x00")
		pkg, constant, ok := strings.Cut(name, ".")
		if !ok {
			return resolve(t, dir, found, found[name])
		}
		for _, pattern := range []string{"../*/", "../../*/", "../../*/*/"} {
			dirs, _ := filepath.Glob(filepath.Join(dir, pattern+pkg)) // the pattern is ours
			dirs = append(dirs, filepath.Join(dir, "..", pkg))
			for _, other := range dirs {
				if text, ok := constantsIn(t, other)[constant]; ok {
					return text
				}
			}
		}
		return ""
	})
}

// collect notes the string constants of one declaration.
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
	case *ast.SelectorExpr:
		pkg, ok := e.X.(*ast.Ident)
		return "\x00" + fmt.Sprint(pkg) + "." + e.Sel.Name + "\x00", ok
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
