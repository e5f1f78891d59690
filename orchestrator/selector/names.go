package selector

// Name is a value that a Selector compares an attribute with, or a label or feature that it
// asks for.
type Name struct {
	Attribute string `json:"attribute"` // tenant, plan, status, database, server, region, timezone, label or feature
	Key       string `json:"key"`       // of a label or feature
	Value     string `json:"value"`     // "" where there is none: of a bare label, feature or region
	Type      string `json:"type"`      // of Value, as jsonb_typeof has them: string, number, boolean; "" where there is none
}

// Names are all that the Selector names, as often as it names them.
func (s Selector) Names() []Name {
	var names []Name
	visit(s.root, func(c *comparison) {
		if c.op == "" {
			names = append(names, Name{Attribute: c.attribute, Key: c.key})
		}
		for _, v := range c.values {
			names = append(names, Name{c.attribute, c.key, v.text, [...]string{"string", "number", "boolean"}[v.kind]})
		}
	})
	return names
}

// visit calls do for each comparison below a part, in the order in which they are written.
func visit(part node, do func(*comparison)) {
	switch n := part.(type) {
	case *group:
		for _, p := range n.parts {
			visit(p, do)
		}
	case *negation:
		visit(n.of, do)
	case *comparison:
		do(n)
	}
}
