package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
)

// Cell shows a value to a person: times local with their zone, nothing as
// a dash, no control characters, which could rewrite a terminal.
func (app *App) Cell(value any) string {
	shown := ""
	switch v := value.(type) {
	case time.Time:
		if !v.IsZero() {
			shown = v.In(app.zone).Format("2006-01-02 15:04:05 MST")
		}
	case *time.Time:
		if v != nil {
			shown = v.In(app.zone).Format("2006-01-02 15:04:05 MST")
		}
	case jobs.Time:
		shown = v.In(app.zone).Format("2006-01-02 15:04:05 MST")
	case *jobs.Time:
		if v != nil {
			shown = v.In(app.zone).Format("2006-01-02 15:04:05 MST")
		}
	default:
		shown = Plain(value)
	}
	shown = printable(shown)
	if shown == "" {
		return "-"
	}
	return shown
}

// csvCell writes a value for a program; text that a spreadsheet would take for a
// formula gets a quote in front. What a table shows as - is an empty cell.
func csvCell(value any) string {
	switch v := value.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case *time.Time:
		if v == nil {
			return ""
		}
		return v.UTC().Format(time.RFC3339Nano)
	case jobs.Time:
		return v.UTC().String()
	case *jobs.Time:
		if v == nil {
			return ""
		}
		return v.UTC().String()
	case int, int64:
		return Plain(v)
	}
	text := Plain(value)
	if text == "-" {
		return ""
	}
	return report.Guard(text)
}

// Plain is a value as text, "" for nil.
func Plain(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case []string:
		return strings.Join(v, ", ")
	case map[string]string:
		pairs := make([]string, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			pairs = append(pairs, key+"="+v[key])
		}
		return strings.Join(pairs, ", ")
	case json.RawMessage:
		return string(v)
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		return fmt.Sprint(v.Elem().Interface())
	}
	return fmt.Sprint(value)
}

// printable replaces what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.In(r, unicode.Bidi_Control):
			return '\uFFFD'
		}
		return r
	}, s)
}

// Stamp is a time in a sentence.
func Stamp(at time.Time) string { return at.UTC().Format(time.DateTime + " UTC") }
