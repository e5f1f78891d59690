package selector

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Selection is a Selector as Postgres evaluates it, and as the type headgate.selection has
// it. Path decides; the lists only narrow down which rows are read.
type Selection struct {
	// Path is a jsonpath over a document of headgate.tenant_documents, "" for all tenants.
	Path string

	// Tenants, Plans and Databases are names of which a selected tenant has one. nil
	// means that the expression fixes none.
	Tenants, Plans, Databases []string
}

// Selection compiles the Selector.
func (s Selector) Selection() Selection {
	if s.root == nil {
		return Selection{}
	}
	var b strings.Builder
	compile(&b, s.root)
	compiled := Selection{Path: b.String()}
	parts := []node{s.root}
	if g, ok := s.root.(*group); ok && !g.or {
		parts = g.parts
	}
	for _, part := range parts {
		c, ok := part.(*comparison)
		if !ok || c.op != "=" || c.not {
			continue
		}
		list := map[string]*[]string{"tenant": &compiled.Tenants, "plan": &compiled.Plans, "database": &compiled.Databases}[c.attribute]
		if list == nil || *list != nil {
			continue
		}
		for _, v := range c.values {
			*list = append(*list, v.text)
		}
	}
	return compiled
}

// compile writes a part as a predicate of jsonpath. Each comparison is an exists(), which is
// true or false whatever types meet in its filter, so that && || ! know no third value.
func compile(b *strings.Builder, part node) {
	switch n := part.(type) {
	case *group:
		joint := " && "
		if n.or {
			joint = " || "
		}
		for i, p := range n.parts {
			if i > 0 {
				b.WriteString(joint)
			}
			b.WriteByte('(')
			compile(b, p)
			b.WriteByte(')')
		}
	case *negation:
		b.WriteString("!(")
		compile(b, n.of)
		b.WriteByte(')')
	case *comparison:
		n.compile(b)
	case unreadable:
		b.WriteString("1 == 2")
	}
}

func (c *comparison) compile(b *strings.Builder) {
	if c.not {
		b.WriteByte('!')
	}
	b.WriteString("exists($." + literal(c.attribute))
	if c.key != "" {
		b.WriteString("." + literal(c.key))
	}
	switch {
	case c.op != "":
		tests := make([]string, len(c.values))
		for i, v := range c.values {
			tests[i] = v.test(c)
		}
		b.WriteString(" ? (" + strings.Join(tests, " || ") + ")")
	case c.attribute == feature:
		b.WriteString(" ? (@ == true)")
	default:
		b.WriteString(" ? (@ != null)")
	}
	b.WriteByte(')')
}

// numberInText is what a label's text must be to count as a number: what Postgres's double()
// keeps all digits of.
const numberInText = `^-?([0-9]{1,15}|[0-9]{1,9}[.][0-9]{1,6})$`

// test is the filter for one value.
func (v value) test(c *comparison) string {
	op := c.op
	if op == "=" {
		op = "=="
	}
	switch {
	case v.kind == numberValue && c.attribute == label:
		return fmt.Sprintf(`(@ like_regex "%s" && @.double() %s %s)`, numberInText, op, v.text)
	case v.kind == textValue:
		return "@ " + op + " " + literal(v.text)
	default:
		return "@ " + op + " " + v.text
	}
}

// literal is a text as jsonpath reads it. Everything but letters, digits and a few others is
// escaped, so that no value can end the text.
func literal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r >= 0x80 && r != 0x7f, r == ' ', r < 0x80 && isWordByte(byte(r)):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// MarshalJSON is the Selection as jsonb_populate_record reads it: null where nothing is asked.
func (s Selection) MarshalJSON() ([]byte, error) {
	var path *string
	if s.Path != "" {
		path = &s.Path
	}
	return json.Marshal(struct {
		Path      *string  `json:"path"`
		Tenants   []string `json:"tenants"`
		Plans     []string `json:"plans"`
		Databases []string `json:"databases"`
	}{path, s.Tenants, s.Plans, s.Databases})
}
