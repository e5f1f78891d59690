package redact

import (
	_ "embed" // the list of conditions
	"strings"
	"sync"
)

// conditions.txt has a line for each SQLSTATE of an error and the condition's name in
// PL/pgSQL, as in errcodes.txt of Postgres 14 to 18.
//
//go:embed conditions.txt
var conditionsText string

var conditions = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	for line := range strings.Lines(conditionsText) {
		if code, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && names[code] == "" { // of two names the first
			names[code] = name
		}
	}
	return names
})

// condition is the name of a SQLSTATE in PL/pgSQL, and a sentence for one that somebody
// has made up.
func condition(code string) string {
	if name := conditions()[code]; name != "" {
		return name
	}
	return "a condition of the database's own functions"
}
