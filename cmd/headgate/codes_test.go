package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// uncoded are sentinels that have no code yet.
var uncoded []string

// published is where a package's sentinels are found that users do not import.
var published = map[string]string{"orchestrator/internal/queue": "orchestrator"}

// TestCodesAreDocumented holds the table of docs/errors.md against the sources: each
// exported sentinel has a code of its own, and each row of the table a sentinel.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	sources := sources(t)
	table, err := os.ReadFile(filepath.Join("..", "..", "docs", "errors.md"))
	require.NoError(t, err)
	for _, wrong := range checkCodes(t, sources, string(table)) {
		t.Error(wrong)
	}
}

// sources are the texts of the packages that have sentinels, by their paths.
func sources(t *testing.T) map[string]string {
	t.Helper()
	sources := map[string]string{}
	root := filepath.Join("..", "..")
	for _, top := range []string{"jobs", "orchestrator", "worker", "migrations"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			rel, _ := filepath.Rel(root, path)
			sources[filepath.ToSlash(rel)] = string(text)
			return err
		}))
	}
	return sources
}

// TestCodesControl plants what TestCodesAreDocumented must notice.
func TestCodesControl(t *testing.T) {
	t.Parallel()
	const head = "package jobs\n\nimport \"errors\"\n\n"
	for says, planted := range map[string]struct{ source, table string }{
		"jobs.ErrGone has no code: make it with jobs.Sentinel": {source: `var ErrGone = errors.New("gone")`},
		"jobs.ErrGone (gone) is not in docs/errors.md":         {source: `var ErrGone = Sentinel("gone", "it is gone")`},
		"docs/errors.md has jobs.ErrGone (gone), which is not": {table: "| `gone` | `jobs.ErrGone` | it is gone |"},
		"two sentinels have the code gone": {
			source: `var ErrGone, ErrAway = Sentinel("gone", "it is gone"), Sentinel("gone", "it is away")`,
			table:  "| `gone` | `jobs.ErrGone` | it is gone |\n| `gone` | `jobs.ErrAway` | it is away |",
		},
		"the code Gone! is not of lower-case letters": {
			source: `var ErrGone = Sentinel("Gone!", "it is gone")`, table: "| `Gone!` | `jobs.ErrGone` | it is gone |",
		},
	} {
		wrong := checkCodes(t, map[string]string{"jobs/x.go": head + planted.source}, planted.table)
		require.Len(t, wrong, 1, says)
		require.Contains(t, wrong[0], says)
	}
}

var (
	codeRow  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]*\\.Err[^`]*)` \\|")
	codeForm = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
)

// coded are the codes of the sentinels, by their names, and what is wrong with others.
func coded(t *testing.T, sources map[string]string) (coded map[string]string, wrong []string) {
	t.Helper()
	coded = map[string]string{}
	for path, text := range sources {
		room := filepath.ToSlash(filepath.Dir(path))
		if name, ok := published[room]; ok {
			room = name
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		require.NoError(t, err)
		for name, value := range sentinels(file) {
			if code := codeIn(value); code != "" {
				coded[room+"."+name] = code
			} else if _, alias := value.(*ast.SelectorExpr); !alias && !slices.Contains(uncoded, name) {
				wrong = append(wrong, room+"."+name+" has no code: make it with jobs.Sentinel")
			}
		}
	}
	return coded, wrong
}

// checkCodes returns a sentence for each difference between sources and table.
func checkCodes(t *testing.T, sources map[string]string, table string) []string {
	t.Helper()
	coded, wrong := coded(t, sources)
	rows, owner := map[string]string{}, map[string]string{}
	for _, row := range codeRow.FindAllStringSubmatch(table, -1) {
		rows[row[2]] = row[1]
	}
	for _, name := range slices.Sorted(maps.Keys(coded)) {
		code := coded[name]
		switch {
		case !codeForm.MatchString(code):
			wrong = append(wrong, "the code "+code+" is not of lower-case letters and underscores")
		case owner[code] != "":
			wrong = append(wrong, "two sentinels have the code "+code+": "+owner[code]+", "+name)
		case rows[name] != code:
			wrong = append(wrong, name+" ("+code+") is not in docs/errors.md")
		}
		owner[code] = name
	}
	for name, code := range rows {
		if _, ok := coded[name]; !ok {
			wrong = append(wrong, "docs/errors.md has "+name+" ("+code+"), which is not in the sources")
		}
	}
	return wrong
}

// sentinels are a file's package variables Err…, and what each is set to.
func sentinels(file *ast.File) map[string]ast.Expr {
	found := map[string]ast.Expr{}
	for _, decl := range file.Decls {
		vars, ok := decl.(*ast.GenDecl)
		if !ok || vars.Tok != token.VAR {
			continue
		}
		for _, spec := range vars.Specs {
			spec, _ := spec.(*ast.ValueSpec)
			for i, name := range spec.Names {
				if strings.HasPrefix(name.Name, "Err") && i < len(spec.Values) {
					found[name.Name] = spec.Values[i]
				}
			}
		}
	}
	return found
}

// codeIn is the code that an expression gives a sentinel, "" if it gives none.
func codeIn(value ast.Expr) string {
	call, ok := value.(*ast.CallExpr)
	if !ok || len(call.Args) != 2 {
		return ""
	}
	name := ""
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		name = fun.Name
	case *ast.SelectorExpr:
		name = fun.Sel.Name
	}
	text, ok := call.Args[0].(*ast.BasicLit)
	if !ok || !strings.EqualFold(name, "sentinel") {
		return ""
	}
	code, _ := strconv.Unquote(text.Value)
	return code
}
