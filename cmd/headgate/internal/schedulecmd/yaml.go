package schedulecmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// Texts in YAML are read as trees of literals. A tree has no aliases, no merge keys
// and no tags when it is read: what stands in it is what the file says, and no second
// type system has been at it.

// yamlDocuments reads all documents of a text, those that say nothing left out.
func yamlDocuments(text []byte) (documents []*yaml.Node, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	plain := yamlTree{}
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, yamlSyntax(text, err)
		}
		root, err := plain.expand(document.Content[0], 0)
		if err != nil {
			return nil, err
		}
		if root.Kind == yaml.MappingNode || !isNull(root) {
			documents = append(documents, root)
		}
	}
}

func atLine(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", node.Line, fmt.Errorf(format, args...))
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// yamlTree remembers the nodes that have been expanded: true when they are done. A
// node that aliases stand for is expanded once, however many they are.
type yamlTree map[*yaml.Node]bool

// yamlDepth is deeper than what people write.
const yamlDepth = 100

// expand puts the anchored nodes in the place of their aliases, and the keys that
// `<<` merges beside the mapping's own, which win. It refuses tags, keys that are given
// twice, and keys that are no texts.
func (t yamlTree) expand(node *yaml.Node, depth int) (*yaml.Node, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	done, begun := t[node]
	switch {
	case done:
		return node, nil
	case begun:
		return nil, atLine(node, "the anchor &%s holds an alias of itself", node.Anchor)
	case depth > yamlDepth:
		return nil, atLine(node, "more than %d levels of lists and mappings", yamlDepth)
	case node.Style&yaml.TaggedStyle != 0:
		return nil, atLine(node, "the tag %s: tags are not read; write the value without it, in quotes if it is text", cli.Cut(node.Tag))
	}
	t[node] = false
	var err error
	for i, child := range node.Content {
		if node.Content[i], err = t.expand(child, depth+1); err != nil {
			return nil, err
		}
	}
	if node.Kind == yaml.MappingNode {
		if err := mergeKeys(node); err != nil {
			return nil, err
		}
	}
	t[node] = true
	return node, nil
}

// mergeKeys makes of a mapping one that has each key once.
func mergeKeys(node *yaml.Node) error {
	var own, merged []*yaml.Node
	lines := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			return atLine(key, "a list or a mapping is no key")
		case key.Tag == "!!merge" && value.Kind == yaml.SequenceNode:
			merged = append(merged, value.Content...)
			continue
		case key.Tag == "!!merge":
			merged = append(merged, value)
			continue
		case lines[key.Value] > 0:
			return atLine(key, "%s is given twice, first in line %d", cli.Quote(key.Value), lines[key.Value])
		}
		lines[key.Value] = key.Line
		own = append(own, key, value)
	}
	for _, from := range merged {
		if from.Kind != yaml.MappingNode {
			return atLine(from, "<< merges mappings only")
		}
		for i := 0; i+1 < len(from.Content); i += 2 {
			if key := from.Content[i]; lines[key.Value] == 0 {
				lines[key.Value] = key.Line
				own = append(own, key, from.Content[i+1])
			}
		}
	}
	node.Content = own
	return nil
}

var (
	yamlErrorLine = regexp.MustCompile(`^yaml: line (\d+): `)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)

	// unquoted is a value that begins with a sign that YAML keeps for itself.
	unquoted = regexp.MustCompile("(?:^\\s*|[:-]\\s+|[\\[{,]\\s*)([*@%`][^,}\\]#\r\n]*)")
)

// yamlSyntax says an error of the parser in our words. Cron texts are what nearly
// always begins with a sign that YAML keeps for itself.
func yamlSyntax(text []byte, err error) error {
	says := strings.TrimPrefix(err.Error(), "yaml: ")
	lines := strings.Split(string(text), "\n")
	first, last, wanted := 1, len(lines), ""
	if line := yamlErrorLine.FindStringSubmatch(err.Error()); line != nil {
		says = "line " + line[1] + ": " + err.Error()[len(line[0]):]
		at, _ := strconv.Atoi(line[1])                    // the expression takes digits only
		first, last = max(at-1, 1), min(at+1, len(lines)) // the parser counts from 0 here, from 1 there
	}
	switch anchor := unknownAnchor.FindStringSubmatch(says); {
	case anchor != nil:
		if n := slices.IndexFunc(lines, func(line string) bool {
			return strings.Contains(line, "*"+anchor[1]) && !strings.Contains(line, "cron:")
		}); n >= 0 {
			return fmt.Errorf("line %d: no value of the file is marked &%s: correct the name behind the *, or put a text in quotes", n+1, cli.Cut(anchor[1]))
		}
		wanted = "*" + anchor[1]
	case !strings.Contains(says, "did not find expected alphabetic or numeric character") && !strings.Contains(says, "cannot start any token"):
		return errors.New(says)
	}
	for n := first; n <= last; n++ {
		value := unquoted.FindStringSubmatch(lines[n-1])
		if value == nil || !strings.HasPrefix(value[1], wanted) {
			continue
		}
		written := strings.TrimSpace(value[1])
		return fmt.Errorf("line %d: %s begins with %s, which YAML keeps for itself: put it in quotes, as in '%s' (%s)", n, cli.Cut(written), written[:1], cli.Cut(written), says)
	}
	return errors.New(says)
}
