// Package selector reads the expressions that select tenants: of schedules, of grants, of
// lists. It is pure: it knows the grammar and what Postgres evaluates, and asks nothing.
//
//	plan in (pro, enterprise) and region = eu and not feature.beta
//
//	selector   = "all" | or
//	or         = and { "or" and }
//	and        = unary { "and" unary }
//	unary      = "not" unary | "(" or ")" | comparison
//	comparison = attribute ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
//	           | attribute [ "not" ] "in" "(" value { "," value } ")"
//	           | "label." KEY | "feature." NAME | "region"
//	attribute  = "tenant" | "plan" | "status" | "database" | "server" | "region" | "timezone"
//	           | "label." KEY | "feature." NAME
//	value      = word | 'text' | number | true | false
//
// A comparison is true or false, never unknown:
//
//   - What a tenant does not have equals nothing, and is neither less nor greater. A bare
//     feature is true if its value is true, a bare label or region if it is there.
//   - a != b is not a = b, and not in is not of in. Both are therefore true of a tenant
//     that has no a.
//   - A number equals a number of the same value, however the two are written. It also
//     equals a label whose text is such a number: of at most 15 digits, or of 9 before the
//     point and 6 behind. A quoted number is a text.
//   - The type of a value counts: the text 'true' does not equal the feature's value true.
//     A label is always a text, so a word, true and false are compared with it as texts.
//   - < <= > >= compare numbers only.
//
// A Selector prints itself in one way, whatever it was read from, and what is printed reads
// as the same Selector. Postgres evaluates its Selection: a jsonpath in which each
// comparison is an exists(), which is never unknown, over the document of the view
// headgate.tenant_documents.
//
// The weakness: the stored Selection is what decides, and the text beside it is only what
// people read. Whoever writes one by SQL must write the other too.
package selector
