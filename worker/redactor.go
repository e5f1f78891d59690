package worker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/worker/internal/redact"
)

// Bounds of what a handler may log as one attribute: how many groups stand one in another,
// and how many bytes of JSON a value has. What is beyond is left out, and said to be.
const (
	logDepthMost = 16
	logJSONMost  = 256 << 10
)

// redactor takes out of lines what the server has said of rows, as attempt.text does it.
// Each value is turned once into the text that is written, and that text is redacted: no
// handler behind it sees the value itself.
type redactor struct {
	full   bool
	said   []*pgconn.PgError
	forgot bool // the server has said more: nothing of a line is known to be free of it
}

func (l *jobLog) redactor() redactor {
	if l.a.w.cfg.ErrorDetail == ErrorsFull {
		return redactor{full: true}
	}
	said, forgot := l.heard()
	return redactor{said: said, forgot: forgot}
}

func (r redactor) text(s string) string {
	if r.forgot {
		return "[the line is " + leftOutOf + "]"
	}
	if r.full || len(r.said) == 0 {
		return s
	}
	return redact.Text(errors.New(s), r.said)
}

func (r redactor) attrs(all []slog.Attr) []slog.Attr {
	redacted := make([]slog.Attr, len(all))
	for i, attr := range all {
		redacted[i] = r.attr(attr, 0)
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
	redacted := make([]slog.Attr, len(members))
	for i, m := range members {
		redacted[i] = r.attr(m, depth)
	}
	return slog.GroupValue(redacted...)
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
	case len(raw) > logJSONMost:
		return slog.StringValue(fmt.Sprintf("[left out: %d bytes of JSON of a %T, and at most %d are logged]", len(raw), v, logJSONMost))
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
	if r.full || len(r.said) == 0 {
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
	clean := r.text(text)
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil && clean == text {
		if said := r.text(string(plain)); said != string(plain) {
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
	if r.full {
		return err.Error()
	}
	return redact.Text(err, r.said)
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
