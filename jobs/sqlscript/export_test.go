package sqlscript

// Empty tells whether a text holds white space, comments and semicolons only.
func Empty(sql string) bool {
	s := scanner{rest: sql}
	return s.word() == "" && s.at == ""
}

// Refusal is refusal.
func Refusal(sql string) string { return refusal(sql) }
