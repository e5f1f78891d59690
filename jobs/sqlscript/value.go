package sqlscript

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// valueType is a type that a parameter may name.
type valueType struct {
	oid     uint32
	want    string                                   // what JSON fits, for people
	private bool                                     // never shown in an error
	read    func(raw json.RawMessage) (string, bool) // the text form of a value that is not null
}

// types are all of them. "" is the scalar whose type Postgres infers (oid 0).
var types = map[string]valueType{
	"":            {0, `a string, a number, true, false or null; other values with their type, as in {"type": "jsonb", "value": …}`, true, readScalar},
	"text":        {pgtype.TextOID, "a string without U+0000", true, readText},
	"int":         {pgtype.Int4OID, "a whole number from -2147483648 to 2147483647", false, readInt(32)},
	"bigint":      {pgtype.Int8OID, "a whole number from -9223372036854775808 to 9223372036854775807", false, readInt(64)},
	"numeric":     {pgtype.NumericOID, `a number, or its digits as a string, "NaN", "Infinity" or "-Infinity"`, false, readNumeric},
	"boolean":     {pgtype.BoolOID, "true or false", false, readBool},
	"date":        {pgtype.DateOID, `a day that exists, as "2027-01-31"`, false, readDate},
	"timestamptz": {pgtype.TimestamptzOID, `a time with its zone (RFC 3339), as "2027-01-31T09:00:00+01:00"`, false, readTime},
	"uuid":        {pgtype.UUIDOID, `a UUID, as "0199c0de-0000-7000-8000-000000000001"`, false, readUUID},
	"jsonb":       {pgtype.JSONBOID, "JSON", true, readJSON},
	"bytea":       {pgtype.ByteaOID, "a string of base64 with padding", true, readBytes},
	"text[]":      {pgtype.TextArrayOID, "a list of strings without U+0000; null may be among them", true, readArray(readText)},
	"bigint[]":    {pgtype.Int8ArrayOID, "a list of whole 64-bit numbers; null may be among them", true, readArray(readInt(64))},
	"uuid[]":      {pgtype.UUIDArrayOID, "a list of UUIDs; null may be among them", true, readArray(readUUID)},
}

func readText(raw json.RawMessage) (text string, ok bool) {
	err := json.Unmarshal(raw, &text)
	return text, err == nil && !strings.ContainsRune(text, 0)
}

// readScalar leaves it to Postgres whether the value fits.
func readScalar(raw json.RawMessage) (string, bool) {
	switch raw[0] {
	case '"':
		return readText(raw)
	case '{', '[':
		return "", false
	}
	return string(raw), true
}

// digits returns the text of a number, or of a string that may hold one.
func digits(raw json.RawMessage) string {
	if text, ok := readText(raw); ok {
		return text
	}
	return string(raw)
}

func readInt(bits int) func(json.RawMessage) (string, bool) {
	return func(raw json.RawMessage) (string, bool) {
		n, err := strconv.ParseInt(digits(raw), 10, bits)
		return strconv.FormatInt(n, 10), err == nil
	}
}

var numericPattern = regexp.MustCompile(`^([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?|NaN|-?Infinity)$`)

func readNumeric(raw json.RawMessage) (string, bool) {
	text := digits(raw)
	return text, numericPattern.MatchString(text)
}

func readBool(raw json.RawMessage) (string, bool) {
	return string(raw), raw[0] == 't' || raw[0] == 'f'
}

func readDate(raw json.RawMessage) (string, bool) {
	text, _ := readText(raw)
	day, err := time.Parse(time.DateOnly, text)
	return text, err == nil && day.Year() >= 1
}

// readTime returns the time in UTC, so that neither the session's settings nor
// Postgres's bound on offsets matter.
func readTime(raw json.RawMessage) (string, bool) {
	text, _ := readText(raw)
	at, err := time.Parse(time.RFC3339Nano, text)
	at = at.UTC()
	return at.Format(time.RFC3339Nano), err == nil && at.Year() >= 1 && at.Year() <= 9999
}

var uuidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func readUUID(raw json.RawMessage) (string, bool) {
	text, _ := readText(raw)
	return text, uuidPattern.MatchString(text)
}

func readJSON(raw json.RawMessage) (string, bool) { return string(raw), true }

func readBytes(raw json.RawMessage) (string, bool) {
	text, ok := readText(raw)
	bytes, err := base64.StdEncoding.DecodeString(text)
	return `\x` + hex.EncodeToString(bytes), ok && err == nil
}

var arrayEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// readArray reads a list into an array of one dimension.
func readArray(read func(json.RawMessage) (string, bool)) func(json.RawMessage) (string, bool) {
	return func(raw json.RawMessage) (string, bool) {
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return "", false
		}
		elements := make([]string, len(list))
		for i, element := range list {
			if string(element) == "null" {
				elements[i] = "NULL"
				continue
			}
			text, ok := read(element)
			if !ok {
				return "", false
			}
			elements[i] = `"` + arrayEscaper.Replace(text) + `"`
		}
		return "{" + strings.Join(elements, ",") + "}", true
	}
}
