package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// advised finds commands in a text: `headgate …` in backticks.
var advised = regexp.MustCompile("`headgate( [^`]*)?`")

// Every command that a sentence of the program or of the documents names exists, with
// its flags.
func TestAdviceNamesCommandsThatExist(t *testing.T) {
	t.Parallel()
	const root = "../.."
	count := 0
	look := func(where, text string) {
		for _, found := range advised.FindAllStringSubmatch(text, -1) {
			count++
			if err := isCommand(strings.Fields(found[1])); err != nil {
				t.Errorf("%s: %s: %v", where, found[0], err)
			}
		}
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch {
		case strings.HasSuffix(path, ".md") && d.Name() != "CHANGELOG.md": // that one tells of what was
			text, err := os.ReadFile(path)
			look(path, string(text))
			return err
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			texts, err := sentences(path)
			for _, text := range texts {
				look(path, text)
			}
			return err
		}
		return nil
	}))
	require.Greater(t, count, 80, "the sentences are not found any more")
}

// isCommand looks a command line up; words in capitals and % stand for values.
func isCommand(words []string) error {
	root := root(cli.New("headgate", nil, &bytes.Buffer{}, &bytes.Buffer{}, nil))
	if len(words) == 0 || strings.HasPrefix(words[0], "%") {
		return nil
	}
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if !strings.Contains(cmd.Use, " ") && cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return cli.UnknownCommand(cmd, rest)
	}
	for _, word := range rest {
		name, isFlag := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil && name != "help" {
			return cli.Usagef("%s has no flag --%s", cmd.CommandPath(), name)
		}
	}
	return nil
}

// sentences are a file's strings, those that are added up as one with VALUE for what is
// no string.
func sentences(path string) (texts []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BinaryExpr:
			if n.Op == token.ADD {
				texts = append(texts, textOf(n))
				return false
			}
		case *ast.BasicLit:
			texts = append(texts, textOf(n))
		}
		return true
	})
	return texts, nil
}

func textOf(n ast.Expr) string {
	switch n := n.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		return textOf(n.X) + textOf(n.Y)
	}
	return "VALUE"
}
