package selector

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs/quote"
)

// The bounds of an expression, as it is written and as it is printed.
const (
	MaxLength = 4000 // bytes
	MaxDepth  = 30   // parentheses and nots, one in another
	MaxValues = 200  // values and bare attributes
	maxText   = 200  // bytes of one value
)

// attributes are what can be asked of a tenant; a label and a feature have a name behind a
// point.
var attributes = []string{"tenant", "plan", "status", "database", "server", "region", "timezone", label, feature}

const (
	label   = "label"
	feature = "feature"
)

// Statuses are the values that status can be compared with: those of headgate.tenants.
var Statuses = []string{"provisioning", "active", "suspended", "moving", "archived", "removed"}

var keywords = []string{"and", "or", "not", "in", All, "true", "false"}

var (
	labelKey    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	featureName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	number      = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?$`)
	likeNumber  = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

// Parse reads an expression. The error is an *Error, which knows the place. It has nothing of
// an expression that may hold a password.
func Parse(expression string) (Selector, error) {
	s, err := parse(expression)
	if err != nil && quote.MayHide(expression) { // a part of it may be shown that looks like no address
		return Selector{}, &Error{Text: quote.Hidden, To: len(quote.Hidden), Says: "this is no expression, and is not repeated, because it may hold a password: write one as in plan = pro"}
	}
	return s, err
}

func parse(expression string) (Selector, error) {
	p := parser{expression: expression}
	switch {
	case len(expression) > MaxLength:
		return Selector{}, &Error{Text: cutText(expression), From: 0, To: 0, Says: fmt.Sprintf("the expression has %d bytes: give at most %d; a label on the tenants makes it shorter", len(expression), MaxLength)}
	case !utf8.ValidString(expression) || strings.ContainsRune(expression, 0):
		return Selector{}, &Error{Text: cutText(strings.ReplaceAll(strings.ToValidUTF8(expression, "\uFFFD"), "\x00", "\uFFFD")), Says: "write it in UTF-8, without NUL"}
	}
	var err error
	if p.tokens, err = lex(expression); err != nil {
		return Selector{}, err
	}
	s, err := p.selector()
	if err != nil {
		return Selector{}, err
	}
	if n := len(s.String()); n > MaxLength {
		return Selector{}, &Error{Text: expression, Says: fmt.Sprintf("the expression has %d bytes when it is written out: give at most %d", n, MaxLength)}
	}
	return s, nil
}

// cutText bounds what an error keeps of an expression that is too long.
func cutText(s string) string {
	if len(s) > MaxLength {
		return strings.ToValidUTF8(s[:MaxLength], "")
	}
	return s
}

// parser reads tokens by recursive descent, one function for each rule of the grammar.
type parser struct {
	expression string
	tokens     []token
	at, depth  int
	values     int
}

func (p *parser) next() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.sort != end {
		p.at++
	}
	return t
}

func (p *parser) fail(at token, format string, args ...any) error {
	return &Error{Text: p.expression, From: at.from, To: at.to, Says: fmt.Sprintf(format, args...)}
}

const example = "write a comparison, as in plan = pro; all tenants are all"

func (p *parser) selector() (Selector, error) {
	if p.next().is(All) && p.tokens[1].sort == end {
		return Selector{}, nil
	}
	root, err := p.or()
	if err != nil {
		return Selector{}, err
	}
	switch t := p.next(); {
	case t.sort == end:
		return Selector{root}, nil
	case t.op(")"):
		return Selector{}, p.fail(t, "this ) closes nothing: take it out, or open a ( before")
	default:
		return Selector{}, p.fail(t, "%s cannot stand here: write and or or before another comparison%s", t.shown(), didYouMean(t.text, []string{"and", "or"}))
	}
}

func (p *parser) or() (node, error)  { return p.group("or", p.and) }
func (p *parser) and() (node, error) { return p.group("and", p.unary) }

// group reads parts that a keyword joins. A part that is such a group itself is taken apart,
// because parentheses in it say nothing.
func (p *parser) group(joint string, part func() (node, error)) (node, error) {
	g := &group{or: joint == "or"}
	for {
		n, err := part()
		if err != nil {
			return nil, err
		}
		if inner, ok := n.(*group); ok && inner.or == g.or {
			g.parts = append(g.parts, inner.parts...)
		} else {
			g.parts = append(g.parts, n)
		}
		if !p.next().is(joint) {
			break
		}
		p.take()
	}
	if len(g.parts) == 1 {
		return g.parts[0], nil
	}
	return g, nil
}

func (p *parser) unary() (node, error) {
	t := p.next()
	if !t.is("not") && !t.op("(") {
		return p.comparison()
	}
	if p.depth++; p.depth > MaxDepth {
		return nil, p.fail(t, "more than %d parentheses and nots stand one in another: make the expression flatter", MaxDepth)
	}
	defer func() { p.depth-- }()
	p.take()
	if t.is("not") {
		of, err := p.unary()
		return &negation{of}, err
	}
	inside, err := p.or()
	if err != nil {
		return nil, err
	}
	if closing := p.next(); !closing.op(")") {
		return nil, p.fail(closing, "the ( at character %d is not closed: write ), or and or or before another comparison", utf8.RuneCountInString(p.expression[:t.from])+1)
	}
	p.take()
	return inside, nil
}

// attribute reads the name of an attribute.
func (p *parser) attribute() (*comparison, error) {
	t := p.take()
	switch {
	case t.is(All):
		return nil, p.fail(t, "all stands alone: leave it out of a longer expression")
	case t.sort != word || slices.ContainsFunc(keywords, t.is):
		return nil, p.fail(t, "%s stands where an attribute belongs: %s", t.shown(), example)
	}
	name, key, keyed := strings.Cut(t.text, ".")
	c := &comparison{attribute: name, key: key}
	switch {
	case !slices.Contains(attributes, name):
		return nil, p.fail(t, "unknown attribute %s%s: give one of tenant, plan, status, database, server, region, timezone, label.KEY, feature.NAME", shown(name), didYouMean(name, attributes))
	case name != label && name != feature && keyed:
		return nil, p.fail(t, "%s has no parts: write %s alone", name, name)
	case name == label && !labelKey.MatchString(key):
		return nil, p.fail(t, "which label? write label.KEY, with a key of up to 63 letters, digits, _ . and -")
	case name == feature && !featureName.MatchString(key):
		return nil, p.fail(t, "which feature? write feature.NAME, with a name of up to 63 lower-case letters, digits, _ and -")
	}
	return c, nil
}

var orders = []string{"<", "<=", ">", ">="}

func (p *parser) comparison() (node, error) {
	name := p.next()
	c, err := p.attribute()
	if err != nil {
		return nil, err
	}
	t := p.next()
	switch {
	case t.op("="), t.op("!="):
		p.take()
		c.op, c.not = "=", t.text == "!="
		return c, p.value(c)
	case t.sort == operator && slices.Contains(orders, t.text):
		p.take()
		c.op = t.text
		value := p.next()
		if c.attribute != label && c.attribute != feature {
			return nil, p.fail(t, "%s is a text, and %s compares numbers: write = or in", c.attribute, t.text)
		}
		if err := p.value(c); err != nil {
			return nil, err
		}
		if c.values[0].kind != numberValue {
			return nil, p.fail(value, "%s compares numbers: give one, as in %s %s 10", t.text, c.name(), t.text)
		}
		return c, nil
	case t.is("in"), t.is("not") && p.tokens[p.at+1].is("in"):
		if c.not = t.is("not"); c.not {
			p.take()
		}
		p.take()
		c.op = "="
		return c, p.list(c)
	case c.attribute == label, c.attribute == feature, c.attribute == "region":
		return c, p.count(name)
	}
	return nil, p.fail(t, "%s is followed by %s: write =, != or in behind it, as in %s = %s", c.attribute, t.shown(), c.attribute, map[bool]string{true: "active", false: "VALUE"}[c.attribute == "status"])
}

// list reads the values of in. They are sorted, and each is there once.
func (p *parser) list(c *comparison) error {
	opening := p.next()
	if !opening.op("(") {
		return p.fail(opening, "in needs values in parentheses, as in %s in (a, b)", c.name())
	}
	p.take()
	for {
		if err := p.value(c); err != nil {
			return err
		}
		switch t := p.take(); {
		case t.op(","):
		case t.op(")"):
			slices.SortFunc(c.values, value.compare)
			c.values = slices.Compact(c.values)
			return nil
		default:
			return p.fail(t, "%s stands between the values of in: write a comma or )", t.shown())
		}
	}
}

// value reads one value into a comparison.
func (p *parser) value(c *comparison) error {
	t := p.take()
	switch {
	case t.sort == end, t.sort == operator:
		return p.fail(t, "%s stands where a value of %s belongs: give a word, a number or a text in single quotes, '' for the empty one", t.shown(), c.name())
	case t.is("and"), t.is("or"), t.is("not"), t.is("in"), t.is(All):
		return p.fail(t, "%s is a keyword: give a value, or write '%s' for the text", shown(t.text), t.text)
	case len(t.text) > maxText:
		return p.fail(t, "the value has %d bytes: give at most %d", len(t.text), maxText)
	case t.sort == word && (c.attribute == label || c.attribute == feature) && likeNumber.MatchString(t.text) && !number.MatchString(t.text):
		return p.fail(t, "%s is no number as they are written here: write digits without + or a leading 0, at most 30, with no exponent; or '%s' for the text", shown(t.text), t.text)
	case c.attribute == "status" && !slices.Contains(Statuses, t.text):
		return p.fail(t, "no tenant has status %s%s: give one of %s", shown(t.text), didYouMean(t.text, Statuses), strings.Join(Statuses, ", "))
	}
	c.values = append(c.values, c.valueOf(t))
	return p.count(t)
}

// count holds the number of values to its bound.
func (p *parser) count(at token) error {
	if p.values++; p.values > MaxValues {
		return p.fail(at, "the expression has more than %d values: a label on the tenants makes it shorter", MaxValues)
	}
	return nil
}

// valueOf is a token as a value of an attribute: only labels and features know numbers, and
// only features true and false.
func (c *comparison) valueOf(t token) value {
	typed := t.sort == word
	switch {
	case typed && c.attribute == feature && (t.is("true") || t.is("false")):
		return value{booleanValue, strings.ToLower(t.text)}
	case typed && (c.attribute == label || c.attribute == feature) && number.MatchString(t.text):
		return value{numberValue, shortest(t.text)}
	}
	return value{textValue, t.text}
}

// shortest is a number without needless zeros and without the sign of zero.
func shortest(digits string) string {
	if strings.Contains(digits, ".") {
		digits = strings.TrimRight(strings.TrimRight(digits, "0"), ".")
	}
	if digits == "-0" {
		return "0"
	}
	return digits
}
