package worker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/internal/redact"
)

// Bounds of what a handler may log in one line, or one With: how many values, members of
// groups and groups included, how many bytes of text and JSON, and how many groups stand one
// in another. What is beyond is left out, and said to be, because each value costs the
// handler the time of a search.
const (
	logValuesMost = 1000
	logBytesMost  = 256 << 10
	logDepthMost  = 16
)

// redactor takes out of lines what the server has said of rows, as attempt.text does it.
// Each value is turned once into the text that is written, and that text is redacted: no
// handler behind it sees the value itself.
type redactor struct {
	full   bool
	said   *redact.Words
	forgot bool // the server has said more: nothing of a line is known to be free of it
	left   *budget
}

// budget is what is left of the bounds of one line.
type budget struct{ values, bytes, leftOut int }

// value says whether one more value may be looked at.
func (b *budget) value() bool {
	if b.values == 0 {
		b.leftOut++
		return false
	}
	b.values--
	return true
}

// text says whether a text may be looked at.
func (b *budget) text(length int) bool {
	if length > b.bytes {
		return false
	}
	b.bytes -= length
	return true
}

func (l *jobLog) redactor() redactor {
	left := &budget{values: logValuesMost, bytes: logBytesMost}
	if l.a.w.cfg.ErrorDetail == ErrorsFull {
		return redactor{full: true, left: left}
	}
	said, forgot := l.heard()
	return redactor{said: said, forgot: forgot, left: left}
}

func (r redactor) text(s string) string {
	if r.forgot {
		return "[the line is " + leftOutOf + "]"
	}
	if !r.left.text(len(s)) {
		return tooLong("text", len(s))
	}
	return r.clean(s)
}

// clean is a text that the budget has room for.
func (r redactor) clean(s string) string {
	if r.full {
		return s
	}
	return r.said.Clean(s)
}

// tooLong is written in the place of what a line has no room for.
func tooLong(what string, bytes int) string {
	return fmt.Sprintf("[left out: a %s of %d bytes, and a line has at most %d in all]", what, bytes, logBytesMost)
}

// attrs are the attributes of a line, and how many values it has had no room for.
func (r redactor) attrs(all []slog.Attr) []slog.Attr {
	redacted := r.members(all, 0)
	if r.left.leftOut > 0 {
		redacted = append(redacted, slog.String("left_out", fmt.Sprintf("[left out: %s, and a line has at most %d]", jobs.Count(r.left.leftOut, "further value"), logValuesMost)))
	}
	return redacted
}

func (r redactor) members(all []slog.Attr, depth int) []slog.Attr {
	redacted := make([]slog.Attr, 0, min(len(all), logValuesMost))
	for _, attr := range all {
		if r.left.value() {
			redacted = append(redacted, r.attr(attr, depth))
		}
	}
	return redacted
}

func (r redactor) attr(attr slog.Attr, depth int) slog.Attr {
	value := attr.Value.Resolve()
	switch value.Kind() {
	case slog.KindString:
		value = slog.StringValue(r.text(value.String()))
	case slog.KindGroup:
		value = r.group(value.Group(), depth+1)
	case slog.KindAny:
		value = r.any(value.Any())
	default: // numbers and times
	}
	return slog.Attr{Key: r.text(attr.Key), Value: value}
}

func (r redactor) group(members []slog.Attr, depth int) slog.Value {
	if depth > logDepthMost {
		return slog.StringValue(fmt.Sprintf("[left out: more than %d groups one in another]", logDepthMost))
	}
	return slog.GroupValue(r.members(members, depth)...)
}

// any is what is written of a value that slog has no kind of. The value is never printed by
// fmt, which does not end where a map or a list holds itself.
func (r redactor) any(v any) slog.Value {
	switch v := v.(type) {
	case nil:
		return slog.AnyValue(nil)
	case error:
		return slog.StringValue(r.ofError(v))
	case []byte:
		if utf8.Valid(v) {
			return slog.StringValue(r.text(string(v)))
		}
	}
	raw, err := asJSON(v)
	switch {
	case err != nil:
		return slog.StringValue(r.text(fmt.Sprintf("[left out: a %T does not encode as JSON: %v]", v, err)))
	case !r.left.text(len(raw)):
		return slog.StringValue(tooLong(fmt.Sprintf("%T, as JSON,", v), len(raw)))
	}
	if says, ok := v.(fmt.Stringer); ok && string(raw) == "{}" { // its fields are its own
		return slog.StringValue(r.ofError(stringerError{says}))
	}
	return slog.AnyValue(jsonText(r.json(raw)))
}

// stringerError is a value that tells of itself, as an error.
type stringerError struct{ fmt.Stringer }

func (e stringerError) Error() string { return e.String() }

// json redacts each text of valid JSON, names included. Bytes, which are base64 there, are
// redacted by what they say.
func (r redactor) json(raw []byte) []byte {
	if r.full || r.said == nil {
		return raw
	}
	var to bytes.Buffer
	for at := 0; at < len(raw); {
		if raw[at] != '"' {
			to.WriteByte(raw[at])
			at++
			continue
		}
		end := at + 1
		for raw[end] != '"' {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		to.Write(r.jsonString(raw[at : end+1]))
		at = end + 1
	}
	return to.Bytes()
}

func (r redactor) jsonString(quoted []byte) []byte {
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return []byte(`"[left out: no text]"`) // valid JSON has none
	}
	clean := r.clean(text)
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil && clean == text {
		if said := r.clean(string(plain)); said != string(plain) {
			clean = said
		}
	}
	if clean == text {
		return quoted
	}
	again, _ := json.Marshal(clean) // never fails
	return again
}

// ofError is an error's text. Where its own code panics, as with a nil pointer, it is what
// fmt makes of it.
func (r redactor) ofError(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = r.text(fmt.Sprint(err))
		}
	}()
	said := err.Error()
	if !r.left.text(len(said)) {
		return tooLong("text", len(said))
	}
	if !r.full {
		r.said = r.said.With(redact.Find(err)...)
	}
	return r.clean(said)
}

// jsonText is JSON that is written as it is: as JSON by handlers that write JSON, as a text
// by others.
type jsonText string

// MarshalJSON and MarshalText are what handlers ask for.
func (t jsonText) MarshalJSON() ([]byte, error) { return []byte(t), nil }

// MarshalText returns the JSON.
func (t jsonText) MarshalText() ([]byte, error) { return []byte(t), nil }

// asJSON is a value as encoding/json has it, whose own code may panic.
func asJSON(v any) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its own JSON panicked: %v", p)
		}
	}()
	var to bytes.Buffer
	encoder := json.NewEncoder(&to)
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(v)
	return bytes.TrimSuffix(to.Bytes(), []byte("\n")), err
}

// fitting cuts what is too long to be kept, of what a redactor has made. It is
// slog.HandlerOptions.ReplaceAttr.
func fitting(_ []string, attr slog.Attr) slog.Attr {
	switch attr.Value.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(clean(attr.Value.String(), logTextMost))
	case slog.KindAny:
		switch v := attr.Value.Any().(type) {
		case slog.Level:
			attr.Value = slog.StringValue(v.String())
		case jsonText:
			if len(v) > logTextMost {
				attr.Value = slog.StringValue(clean(string(v), logTextMost))
			}
		}
	default:
	}
	return attr
}
