package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one entry of a data file:
//
//	== C09 worker/claim/room.go
//	says: a server's budget counts jobs, not connections
//	test: ./worker/claim -run ^TestIdleConnectionsCount$
//	-- old
//	all.Conns
//	-- new
//	all.Jobs
//
// The old text must stand in the file exactly once. A folder of migrations, written with a
// slash at its end, stands for the newest file in it that has the old text: what an older
// one says of the same function counts no more. A line "equivalent: why" says that
// no test can tell the mutant from the code; it need only apply.
type mutant struct {
	id, file, says, equivalent string
	tests                      []string
	old, new                   string
}

// apply returns the mutated file and its path.
func (m mutant) apply(root string) (path string, mutated []byte, err error) {
	files := []string{filepath.Join(root, m.file)}
	if strings.HasSuffix(m.file, "/") {
		if files, err = filepath.Glob(filepath.Join(root, m.file, "*.sql")); err != nil {
			return "", nil, err
		}
	}
	newer := map[string]string{} // what newer migrations define, and which does
	for _, file := range slices.Backward(files) {
		text, err := os.ReadFile(file) //nolint:gosec // what the data files name
		if err != nil {
			return "", nil, err
		}
		switch bytes.Count(text, []byte(m.old)) {
		case 1:
			of := ""
			if before := defines(text[:bytes.Index(text, []byte(m.old))]); len(before) > 0 {
				of = before[len(before)-1]
			}
			if newer[of] != "" {
				return "", nil, fmt.Errorf("its old text is in %s only, and %s defines %s anew", file, newer[of], of)
			}
			return file, bytes.Replace(text, []byte(m.old), []byte(m.new), 1), nil
		case 0:
			for _, name := range defines(text) {
				newer[name] = file
			}
			continue
		}
		return "", nil, fmt.Errorf("its old text is more than once in %s", file)
	}
	return "", nil, fmt.Errorf("its old text is not in %s", m.file)
}

var definition = regexp.MustCompile(`(?m)^CREATE (?:OR REPLACE )?(?:FUNCTION|VIEW|TRIGGER) ([a-z_.]+)`)

// defines returns the functions, views and triggers that a migration, or the beginning of
// one, defines.
func defines(text []byte) (names []string) {
	for _, found := range definition.FindAllSubmatch(text, -1) {
		names = append(names, string(found[1]))
	}
	return names
}

// readAll reads the data files of a folder: all mutants, or those whose id or whose
// data file's name without its ending is among wanted.
func readAll(folder string, wanted []string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	ids, found := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the data files
		if err != nil {
			return nil, err
		}
		some, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		area := strings.TrimSuffix(filepath.Base(file), ".txt")
		for _, m := range some {
			if ids[m.id] {
				return nil, fmt.Errorf("%s: two mutants are called %s", file, m.id)
			}
			ids[m.id] = true
			for _, name := range []string{m.id, area} {
				if slices.Contains(wanted, name) {
					found[name] = true
				}
			}
			if len(wanted) == 0 || slices.Contains(wanted, m.id) || slices.Contains(wanted, area) {
				all = append(all, m)
			}
		}
	}
	for _, name := range wanted {
		if !found[name] {
			return nil, fmt.Errorf("%q is the id of no mutant and the name of no data file", name)
		}
	}
	return all, nil
}

// parse reads one data file.
func parse(text string) ([]mutant, error) {
	var all []mutant
	for i, entry := range strings.Split("\n"+text, "\n== ") {
		if i == 0 { // what stands before the first entry is for the reader
			continue
		}
		m, err := parseOne(entry)
		if err != nil {
			first, _, _ := strings.Cut(entry, "\n")
			return nil, fmt.Errorf("the entry %q: %w", first, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func parseOne(entry string) (m mutant, err error) {
	head, texts, found := strings.Cut(entry, "\n-- old\n")
	if !found {
		return m, fmt.Errorf(`it has no line "-- old"`)
	}
	if m.old, m.new, found = strings.Cut(texts, "\n-- new"); !found {
		return m, fmt.Errorf(`it has no line "-- new"`)
	}
	m.new = strings.TrimRight(strings.TrimPrefix(m.new, "\n"), "\n")
	lines := strings.Split(head, "\n")
	if m.id, m.file, found = strings.Cut(lines[0], " "); !found {
		return m, fmt.Errorf("its first line is not an id and a file")
	}
	for _, line := range lines[1:] {
		word, rest, _ := strings.Cut(line, ": ")
		switch word {
		case "says":
			m.says = rest
		case "test":
			m.tests = append(m.tests, rest)
		case "equivalent":
			m.equivalent = rest
		default:
			if strings.TrimSpace(line) != "" {
				return m, fmt.Errorf("the line %q: says, test or equivalent are known", line)
			}
		}
	}
	if m.says == "" || m.old == "" || m.old == m.new || (m.equivalent == "") == (len(m.tests) == 0) {
		return m, fmt.Errorf("it needs what it says, an old text, another new text, and either tests or why it is equivalent")
	}
	return m, nil
}
