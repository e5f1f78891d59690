package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxDigits bounds a number in arguments, written out. Postgres writes all of them out.
const maxDigits = 1000

// CheckNames says what Postgres would store otherwise of a JSON text that encoding/json
// has not written: a name that one object has twice, of which Postgres keeps the last,
// and a number of more than 1,000 digits. It refuses what is not one JSON value.
func CheckNames(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := checkNames(decoder, "args"); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("args are not one JSON value: there is more behind it, at byte %d", decoder.InputOffset())
	}
	return nil
}

// checkNames reads one value, which stands at the path where.
func checkNames(decoder *json.Decoder, where string) error {
	token, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("args are not JSON: %w", err)
	}
	switch token := token.(type) {
	case json.Number:
		if digits(token.String()) > maxDigits {
			return fmt.Errorf("%s is a number of more than %d digits: pass it as text", where, maxDigits)
		}
		return nil
	case json.Delim:
		names := map[string]bool{}
		for i := 0; decoder.More(); i++ {
			inner := where + "[" + strconv.Itoa(i) + "]"
			if token == '{' {
				name, err := decoder.Token()
				if err != nil {
					return fmt.Errorf("args are not JSON: %w", err)
				}
				text, _ := name.(string) // a name is one
				inner = where + "." + text
				if names[text] {
					return fmt.Errorf("%.200s is given twice: one object has each name once", inner)
				}
				names[text] = true
			}
			if err := checkNames(decoder, inner); err != nil {
				return err
			}
		}
		if _, err := decoder.Token(); err != nil {
			return fmt.Errorf("args are not JSON: %w", err)
		}
	}
	return nil
}

// digits is how many a number has at most when its exponent is written out.
func digits(number string) int {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	n, err := strconv.Atoi(exponent)
	if err != nil && exponent != "" {
		return maxDigits + 1
	}
	return len(mantissa) + max(n, -n)
}
