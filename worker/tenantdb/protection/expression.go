package protection

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Expressions are read as pg_get_expr and pg_get_viewdef write them with search_path set to
// pg_catalog: every operator other than Postgres's own has its schema, and each AND, OR and
// NOT has parentheses of its own. The form is the same from Postgres 14 to 18. What is
// written otherwise is not understood, and so guards nothing.

// spaces makes one line of an expression. Names keep their blanks; the forms that are
// understood hold no string.
func spaces(expr string) string {
	parts := strings.Split(expr, `"`)
	for i := 0; i < len(parts); i += 2 { // outside of quotes
		parts[i] = blanks.ReplaceAllString(parts[i], " ")
	}
	return strings.TrimSpace(strings.Join(parts, `"`))
}

var blanks = regexp.MustCompile(`\s+`)

// depthZero calls f for each byte outside of parentheses and quotes, until f says no. It
// reports whether parentheses and quotes are balanced.
func depthZero(expr string, f func(at int) bool) bool {
	depth, quote := 0, byte(0)
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth < 0 {
				return false
			}
		case depth == 0:
			if !f(i) {
				return true
			}
		}
	}
	return depth == 0 && quote == 0
}

// bare takes away the parentheses that enclose all of an expression.
func bare(expr string) string {
	for {
		expr = strings.TrimSpace(expr)
		if len(expr) < 2 || expr[0] != '(' || expr[len(expr)-1] != ')' {
			return expr
		}
		inner := expr[1 : len(expr)-1]
		if !depthZero(inner, func(int) bool { return true }) {
			return expr
		}
		expr = inner
	}
}

// enclosed says whether an expression stands in parentheses as a whole, so that nothing more
// follows it, such as UNION.
func enclosed(expr string) bool { return bare(expr) != strings.TrimSpace(expr) }

// split cuts an expression where a word stands outside of parentheses and quotes.
func split(expr, at string) (parts []string) {
	from := 0
	depthZero(expr, func(i int) bool {
		if i >= from && strings.HasPrefix(expr[i:], at) {
			parts, from = append(parts, expr[from:i]), i+len(at)
		}
		return true
	})
	return append(parts, expr[from:])
}

// conjuncts are the expressions that must all be true.
func conjuncts(expr string) (all []string) {
	expr = bare(expr)
	parts := split(expr, " AND ")
	if len(parts) == 1 || len(split(expr, " OR ")) > 1 || strings.HasPrefix(expr, "CASE ") || strings.HasPrefix(expr, "NOT ") {
		return []string{expr}
	}
	for _, p := range parts {
		all = append(all, conjuncts(p)...)
	}
	return all
}

const identForm = `(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")`

var (
	columnForm = regexp.MustCompile(`^(?:(` + identForm + `)\.)?(` + identForm + `)$`)
	callForm   = regexp.MustCompile(`^headgate\.current_org(?:_key)?\(\)$`)
	selectForm = regexp.MustCompile(`^SELECT (.+) AS ` + identForm + `$`)
	castForm   = regexp.MustCompile(`^\((.+)\)::(integer|smallint|bigint|numeric|text|uuid|character varying|bpchar)$`)
	widerForm  = regexp.MustCompile(`^\((.+)\)::(bigint|text|uuid)$`)
	existsForm = regexp.MustCompile(`^EXISTS \( SELECT (?:1 )?FROM ((?:` + identForm + `\.)?` + identForm + `)(?: (` + identForm + `))? WHERE (.+)\)$`)
	arrayForm  = regexp.MustCompile(`^ANY \(ARRAY\( SELECT ((?:` + identForm + `\.)?` + identForm + `) FROM ((?:` + identForm + `\.)?` + identForm + `)(?: (` + identForm + `))?(?: WHERE (.+))?\)\)$`)
	viewForm   = regexp.MustCompile(`^SELECT ([^()]+) FROM ((?:` + identForm + `\.)?` + identForm + `) WHERE (.+);$`)
)

// isKey says whether an expression is the present organisation, cast or not, asked once for
// a query or once a row.
func isKey(expr string) bool {
	expr = bare(expr)
	if callForm.MatchString(expr) {
		return true
	}
	if inner := selectForm.FindStringSubmatch(expr); inner != nil {
		return isKey(inner[1])
	}
	inner := castForm.FindStringSubmatch(expr)
	return inner != nil && isKey(inner[1])
}

// column is what a column of a table is called in an expression, and the type that it is cast
// to, or "".
type column struct{ table, name, cast string }

// casts are the types of columns of which different values stay different.
var casts = map[string][]string{
	"bigint": {"int2", "int4", "int8"},
	"text":   {"text", "varchar", "uuid", "int2", "int4", "int8"},
	"uuid":   {"uuid"},
}

// exact says whether different values of a column are different where it is compared. Postgres
// does not print a cast that it makes by itself, and a type of the application may have one.
func (r *relation) exact(col column) bool {
	i := slices.Index(r.Columns, col.name)
	if i < 0 || slices.Contains(r.Loose, col.name) {
		return false
	}
	if i >= len(r.Types) || r.Types[i] == "" {
		return false
	}
	return col.cast == "" || slices.Contains(casts[col.cast], r.Types[i])
}

// shortOf is the name of schema.name alone.
func shortOf(object string) string {
	if found := columnForm.FindStringSubmatch(object); found != nil {
		return found[2]
	}
	return object
}

// columnOf reads a column, which may be cast.
func columnOf(expr string) (c column, ok bool) {
	expr = bare(expr)
	cast := ""
	if inner := widerForm.FindStringSubmatch(expr); inner != nil {
		expr, cast = bare(inner[1]), inner[2]
	}
	found := columnForm.FindStringSubmatch(expr)
	if found == nil {
		return c, false
	}
	return column{found[1], found[2], cast}, true
}

// equation reads L = R.
func equation(expr string) (left, right string, ok bool) {
	parts := split(bare(expr), " = ")
	if len(parts) != 2 {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// boundColumn reads "column = the present organisation", in either order.
func boundColumn(expr string) (column, bool) { return boundBy(expr, isKey) }

// boundBy reads "column = what is meant", in either order.
func boundBy(expr string, meant func(string) bool) (column, bool) {
	left, right, ok := equation(expr)
	if !ok {
		return column{}, false
	}
	if !meant(right) {
		left, right = right, left
	}
	if !meant(right) {
		return column{}, false
	}
	return columnOf(left)
}

// namesOf are names of columns with commas between them, as a declaration has them.
func namesOf(columns []column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return strings.Join(names, ",")
}

// parentForm is a condition that asks a parent table.
type parentForm struct {
	table   string   // schema.name
	joined  []column // columns of the parent that equal columns here
	here    []column // those, in the same order
	further []string // what else must be true, about the parent
	alias   string
}

// parentOf reads EXISTS (SELECT FROM parent WHERE parent.key = here.column AND …). here is
// what the table itself is called.
func parentOf(expr, here string) (p parentForm, ok bool) {
	found := existsForm.FindStringSubmatch(bare(expr))
	if found == nil {
		return arrayOf(expr, here)
	}
	if !enclosed(found[3]) {
		return p, false
	}
	p.table, p.alias = found[1], found[2]
	if p.alias == "" {
		p.alias = shortOf(p.table)
	}
	if p.alias == here {
		return p, false // which of the two a column is of cannot be told
	}
	for _, c := range conjuncts(found[3]) {
		left, right, ok := equation(c)
		a, okA := columnOf(left)
		b, okB := columnOf(right)
		if ok && okA && okB && a.table == here && b.table == p.alias {
			a, b = b, a
		}
		if ok && okA && okB && a.table == p.alias && b.table == here {
			p.joined, p.here = append(p.joined, a), append(p.here, b)
		} else {
			p.further = append(p.further, c)
		}
	}
	return p, len(p.joined) > 0
}

// arrayOf reads column = ANY (ARRAY(SELECT key FROM parent WHERE …)).
func arrayOf(expr, here string) (p parentForm, ok bool) {
	left, right, ok := equation(expr)
	found := arrayForm.FindStringSubmatch(right)
	if !ok || found == nil {
		return p, false
	}
	p.table, p.alias = found[2], cmp.Or(found[3], shortOf(found[2]))
	own, okOwn := columnOf(left)
	key, okKey := columnOf(found[1])
	if !okOwn || !okKey || found[4] != "" && !enclosed(found[4]) || own.table != "" && own.table != here || key.table != "" && key.table != p.alias {
		return p, false
	}
	p.joined, p.here = []column{key}, []column{own}
	if found[4] != "" {
		p.further = conjuncts(found[4])
	}
	return p, true
}

// coversUnique says whether the joined columns name one row of the parent at most. here is nil
// where nobody can tell of it.
func (p parentForm) coversUnique(parent, here *relation) bool {
	for i := range p.joined {
		if !parent.exact(p.joined[i]) || here == nil || !here.exact(p.here[i]) {
			return false
		}
	}
	return slices.ContainsFunc(parent.Uniques, func(columns string) bool {
		for c := range strings.SplitSeq(strings.Trim(columns, ","), ",") {
			if !slices.ContainsFunc(p.joined, func(j column) bool { return j.name == c }) {
				return false
			}
		}
		return true
	})
}
