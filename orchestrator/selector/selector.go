package selector

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Selector selects tenants. The zero value selects all. Selectors are made by Parse and by
// And, and do not change.
type Selector struct{ root node }

// All is the Selector of all tenants, as it is written.
const All = "all"

// node is a part of an expression: *group, *negation or *comparison; or unreadable alone.
type node interface{}

// group is two or more parts joined by and, or by or.
type group struct {
	or    bool
	parts []node
}

type negation struct{ of node }

// unreadable is the text of a row that does not parse, and why.
type unreadable struct {
	text string
	err  error
}

// comparison is an attribute and the values that it is compared with. Without values it is
// bare.
type comparison struct {
	attribute string // a name of attributes
	key       string // of label and feature
	op        string // = < <= > >=, or "" if it is bare; = is any of the values
	not       bool   // != and not in
	values    []value
}

// kind is the type of a value.
type kind int

const (
	textValue kind = iota
	numberValue
	booleanValue
)

// value is what an attribute is compared with.
type value struct {
	kind kind
	text string // a number without needless zeros; true or false
}

func (v value) compare(o value) int {
	return cmp.Or(cmp.Compare(v.kind, o.kind), strings.Compare(v.text, o.text))
}

// IsAll tells whether the Selector selects all tenants because it asks for nothing.
func (s Selector) IsAll() bool { return s.root == nil }

// String is the expression in its one form: Parse reads it as the same Selector.
func (s Selector) String() string {
	if s.root == nil {
		return All
	}
	var b strings.Builder
	write(&b, s.root, false)
	return b.String()
}

// MarshalText is String, in JSON too.
func (s Selector) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is Parse.
func (s *Selector) UnmarshalText(text []byte) (err error) {
	*s, err = Parse(string(text))
	return err
}

// Scan reads a column. A text that somebody has written by SQL and that does not parse is no
// error, so that one such row does not keep the others from being read. Its Selector prints
// the text, selects nobody, and fails Check.
func (s *Selector) Scan(column any) (err error) {
	text, ok := column.(string)
	if !ok {
		return fmt.Errorf("selector: a column of type %T, want text", column)
	}
	if *s, err = Parse(text); err != nil {
		*s = Selector{unreadable{text, err}}
	}
	return nil
}

// Check returns the error of a Selector that was read from a column and does not parse.
func (s Selector) Check() error {
	if u, ok := s.root.(unreadable); ok {
		return u.err
	}
	return nil
}

// OfTenant is the Selector of one tenant, by its slug.
func OfTenant(slug string) Selector {
	return Selector{&comparison{attribute: "tenant", op: "=", values: []value{{textValue, slug}}}}
}

// Slugs returns the slugs that the Selector names, wherever in it, sorted and each once.
func (s Selector) Slugs() []string {
	var slugs []string
	var look func(part node)
	look = func(part node) {
		switch n := part.(type) {
		case *group:
			for _, p := range n.parts {
				look(p)
			}
		case *negation:
			look(n.of)
		case *comparison:
			if n.attribute != "tenant" {
				return
			}
			for _, v := range n.values {
				slugs = append(slugs, v.text)
			}
		}
	}
	look(s.root)
	slices.Sort(slugs)
	return slices.Compact(slugs)
}

// write prints a part; inside says that it is an operand, so that a group needs parentheses.
func write(b *strings.Builder, part node, inside bool) {
	switch n := part.(type) {
	case *group:
		if inside {
			b.WriteByte('(')
		}
		joint := " and "
		if n.or {
			joint = " or "
		}
		for i, p := range n.parts {
			if i > 0 {
				b.WriteString(joint)
			}
			write(b, p, !n.or || !isAnd(p)) // and binds tighter than or
		}
		if inside {
			b.WriteByte(')')
		}
	case *negation:
		b.WriteString("not ")
		write(b, n.of, true)
	case *comparison:
		n.write(b)
	case unreadable:
		b.WriteString(n.text)
	}
}

func isAnd(part node) bool {
	g, ok := part.(*group)
	return ok && !g.or
}

func (c *comparison) write(b *strings.Builder) {
	b.WriteString(c.name())
	switch {
	case c.op == "":
	case len(c.values) == 1:
		op := c.op
		if c.not {
			op = "!="
		}
		b.WriteString(" " + op + " ")
		c.values[0].write(b, c)
	default:
		if c.not {
			b.WriteString(" not")
		}
		b.WriteString(" in (")
		for i, v := range c.values {
			if i > 0 {
				b.WriteString(", ")
			}
			v.write(b, c)
		}
		b.WriteByte(')')
	}
}

// name is the attribute as it is written.
func (c *comparison) name() string {
	if c.key != "" {
		return c.attribute + "." + c.key
	}
	return c.attribute
}

// write prints a value: a text without quotes where it reads as the same text.
func (v value) write(b *strings.Builder, of *comparison) {
	if v.kind != textValue || isPlainWord(v.text) && of.valueOf(token{sort: word, text: v.text}) == v {
		b.WriteString(v.text)
		return
	}
	b.WriteString("'" + strings.ReplaceAll(v.text, "'", "''") + "'")
}

// isPlainWord tells whether a text reads as one word that is no keyword.
func isPlainWord(s string) bool {
	for i := range len(s) {
		if !isWordByte(s[i]) {
			return false
		}
	}
	return s != "" && !slices.ContainsFunc(keywords, func(k string) bool { return strings.EqualFold(k, s) })
}
