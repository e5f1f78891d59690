package wire

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
)

// Rows of the queue are written by anybody. What one says of itself is read here, by
// the worker and by the centre alike.

// OwnEnds says to the triggers of 0056_foreign_writers.sql that this transaction's ends are
// Headgate's own. They undo any other end of a row whose last attempt was Headgate's.
const OwnEnds = `set_config('headgate.writer', 'headgate', true)`

// UIDOfRow is the UID of a job that another client inserted without one: a UUIDv8 of the
// row's number, in hexadecimal, and a hash of the number and the creation time. By the
// number the row is found. The time tells the row from one that gets the same number after
// a failover. It is the central database's headgate.uid_of_row.
func UIDOfRow(id int64, createdAt time.Time) string {
	created := jobs.Time{Time: createdAt}.String()
	if !(jobs.Time{Time: createdAt}).Infinite() {
		const y2k = 946_684_800_000_000
		created = strconv.FormatInt(createdAt.UnixMicro()-y2k, 10) // from 2000 on, as Postgres counts: no time of its own overflows
	}
	number, hash := fmt.Sprintf("%016x", uint64(id)), sha256.Sum256(fmt.Appendf(nil, "river_job %d %s", id, created))
	return fmt.Sprintf("%s-%s-8%s-8%s%x-%x", number[:8], number[8:12], number[12:15], number[15:], hash[:1], hash[1:7])
}

// UIDOfOccurrence is the UID of the job of one occurrence of a schedule: a UUIDv8 of the
// schedule's id, the nominal time and the kind. A restored or copied central database, and
// a promoted standby that lacks its last commits, give the same occurrence the same UID,
// so that the tenant's ledger knows what was done before. request is the UUID of the
// request behind a backfill or a trigger, and "" for the schedule's own times. The nominal
// time of a trigger is zero here, because it is only the moment of the call.
func UIDOfOccurrence(schedule string, nominal time.Time, kind, request string) string {
	at := "-"
	if !nominal.IsZero() {
		at = strconv.FormatInt(nominal.UnixMicro(), 10)
	}
	return derivedUID(fmt.Appendf(nil, "occurrence %s %s %s %s", schedule, at, cmp.Or(request, "-"), kind))
}

// derivedUID is a UUIDv8 of a text. Its last byte is uniform: the ledger takes one of 64
// by it to forget what is old.
func derivedUID(of []byte) string {
	u := sha256.Sum256(of)
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// IsUID says whether text is a UUID as Postgres writes it: lower case, with hyphens.
// It is the central database's headgate.uuid_or_null.
func IsUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if c := text[i]; hyphen != (c == '-') || !hyphen && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// ReadMeta reads the metadata of a row that anybody may have written. What does not
// fit is left out, and the error says what, in a sentence; the rest is read. The UID
// is always one: that of UIDOfRow where the metadata has none, by the same rule as the
// central database's headgate.job_uid.
func ReadMeta(metadata []byte, id int64, createdAt time.Time) (m Meta, err error) {
	if m, err = readKeys(metadata); m.UID == "" {
		m.UID = UIDOfRow(id, createdAt)
	}
	return m, err
}

func readKeys(metadata []byte) (m Meta, err error) {
	if bytes.HasPrefix(metadata, []byte("{")) && !bytes.ContainsFunc(metadata, notPlain) && json.Unmarshal(metadata, &m) == nil && m.odd() == nil {
		return m, nil
	}
	m = Meta{}
	var keys map[string]json.RawMessage
	if json.Unmarshal(metadata, &keys) != nil || keys == nil {
		return m, fmt.Errorf("it is %s, and must be a JSON object", shortly(metadata))
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		i, ours := metaFields[key]
		if !ours {
			continue
		}
		field := reflect.ValueOf(&m).Elem().Field(i)
		if json.Unmarshal(keys[key], field.Addr().Interface()) != nil {
			field.SetZero()
			err = cmp.Or(err, fmt.Errorf("%s is %s, and must be %s", key, shortly(keys[key]), formOf(field.Interface())))
		}
	}
	for odd := m.odd(); odd != nil; odd = m.odd() {
		err = cmp.Or(err, fmt.Errorf("%w, and must be a UUID in lower case", odd))
	}
	return m, err
}

// notPlain finds what encoding/json, which knows keys in any case, could take for
// another key.
func notPlain(r rune) bool { return r >= 'A' && r <= 'Z' || r == '\\' || r > 0x7e }

// odd returns what is wrong with a name that is no UUID, and takes it away.
func (m *Meta) odd() error {
	for _, id := range []struct {
		key  string
		text *string
	}{{"job_uid", &m.UID}, {"tenant", &m.Tenant}, {"database", &m.Database}} {
		if text := *id.text; text != "" && !IsUID(text) {
			*id.text = ""
			return fmt.Errorf("%s is %.80q", id.key, text)
		}
	}
	return nil
}

// metaFields are the fields of Meta by their keys.
var metaFields = func() map[string]int {
	fields := map[string]int{}
	for i := range reflect.TypeFor[Meta]().NumField() {
		key, _, _ := strings.Cut(reflect.TypeFor[Meta]().Field(i).Tag.Get("json"), ",")
		fields[key] = i
	}
	return fields
}()

// formOf says what a field of Meta must be.
func formOf(field any) string {
	switch field.(type) {
	case string:
		return "a text"
	case int64:
		return "a whole number"
	case *time.Time:
		return "a time in RFC 3339 form"
	}
	return `an object with "at", a time in RFC 3339 form`
}

// shortly quotes JSON in an error's sentence.
func shortly(raw []byte) string {
	const most = 80
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "…"
	}
	return string(raw)
}
