package importer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// ReadJSONLines reads one object of JSON a line, to the end. A name that an object lacks is
// an empty cell where another object has it. A *RowsError lists wrong lines.
func ReadJSONLines(r io.Reader, opts ReadOptions) (*Table, error) {
	b := newBuilder(opts)
	in, err := plainText(r, b.opts.MaxBytes)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	keys := objectKeys{builder: b, byName: map[string]column{}}
	line := 0
	for lines.Scan() {
		line++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := b.full(); err != nil {
			return nil, err
		}
		if err := keys.add(line, lines.Bytes()); err != nil {
			return nil, err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, jobs.Inputf("input", "", "line %d is longer than %d bytes; write one object a line", line+1, maxLine)
	}
	if lines.Err() != nil {
		return nil, lines.Err()
	}
	return b.end()
}

// objectKeys are the columns of objects, which come as they are met.
type objectKeys struct {
	*builder
	byName map[string]column
}

// add makes a row of an object. Its error ends the reading.
func (k *objectKeys) add(line int, text []byte) error {
	if !utf8.Valid(text) {
		k.wrong.add(line, errText.Error())
		return nil
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		k.wrong.add(line, "this is an array: write one object a line, without brackets and commas between them")
		return k.wrong.err()
	}
	names, values, err := readObject(text)
	if err != nil {
		k.wrong.add(line, err.Error())
		k.table.rows = append(k.table.rows, row{line: line})
		return nil
	}
	of := make([]column, len(names))
	for i, name := range names {
		c, ok := k.byName[name]
		if !ok {
			if len(k.byName) > maxColumns {
				return jobs.Inputf("input", "", "line %d: the objects have more than %d names", line, maxColumns)
			}
			if c, err = k.columns.add(name); err != nil {
				k.wrong.add(line, err.Error())
			}
			k.byName[name] = c
		}
		of[i] = c
	}
	k.builder.add(line, of, values)
	return nil
}

// maxColumns bounds the columns of an input.
const maxColumns = 500

var errObject = errors.New("this is no object of JSON")

// readObject reads one object, and nothing behind it, as names and values in its order.
func readObject(text []byte) (names []string, values []cell, err error) {
	in := json.NewDecoder(bytes.NewReader(text))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return nil, nil, errObject
	}
	seen := map[string]bool{}
	for in.More() {
		before := in.InputOffset()
		name, err := in.Token()
		key, ok := name.(string)
		if err != nil || !ok {
			return nil, nil, errObject
		}
		if half := wire.HalfCharacter(text[before:in.InputOffset()]); half != "" {
			return nil, nil, fmt.Errorf("a name %s", halfOf(half))
		}
		if seen[key] {
			return nil, nil, fmt.Errorf("the name %q is given twice", cut(key))
		}
		seen[key] = true
		var raw json.RawMessage
		if in.Decode(&raw) != nil {
			return nil, nil, errObject
		}
		value, err := cellOf(raw)
		if err != nil {
			return nil, nil, err
		}
		names, values = append(names, key), append(values, value)
	}
	if _, err := in.Token(); err != nil {
		return nil, nil, errObject
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("something follows the object: write one object a line")
	}
	return names, values, nil
}

// halfOf is what is wrong with a text that has half of a surrogate pair. encoding/json would
// put U+FFFD in.
func halfOf(escape string) string {
	return fmt.Sprintf("holds %s, which is half of a character: write the character itself, or both halves", escape)
}

// cellOf is a value of JSON.
func cellOf(raw json.RawMessage) (cell, error) {
	if half := wire.HalfCharacter(raw); half != "" {
		return cell{half, isHalf}, nil
	}
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return cell{text, isString}, err
	case 't', 'f':
		return cell{string(raw), isBool}, nil
	case 'n':
		return cell{}, nil
	case '{', '[':
		return cell{string(raw), isJSON}, nil
	}
	return cell{string(raw), isNumber}, nil
}
