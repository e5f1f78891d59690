package wire_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// A row without a UID has a UUIDv8 of its number and creation; what time.Time has no
// word for tells rows apart too.
func TestUIDOfRow(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 7, 0, 0, 123456789, time.UTC)
	require.Equal(t, wire.UIDOfRow(77, at.Truncate(time.Microsecond)), wire.UIDOfRow(77, at), "Postgres has microseconds")
	seen := map[string]bool{}
	for _, created := range []time.Time{at, at.Add(time.Microsecond), jobs.Infinity, jobs.NegativeInfinity} {
		for _, id := range []int64{77, -77, 0} {
			uid := wire.UIDOfRow(id, created)
			parsed, err := uuid.Parse(uid)
			require.NoError(t, err)
			require.EqualValues(t, 8, parsed.Version())
			require.Equal(t, uuid.RFC4122, parsed.Variant())
			require.True(t, wire.IsUID(uid))
			require.Equal(t, fmt.Sprintf("%016x", uint64(id)), uid[:8]+uid[9:13]+uid[15:18]+uid[20:21], "the row's number")
			require.False(t, seen[uid])
			seen[uid] = true
		}
	}
}

// The UID of an occurrence's job says which occurrence it is, and its last byte is
// uniform, because the ledger takes a sample by it.
func TestUIDOfOccurrence(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	const schedule, other = "0190aaaa-0000-7000-8000-00000000000a", "0190aaaa-0000-7000-8000-00000000000b"
	first := wire.UIDOfOccurrence(schedule, at, "note", "")
	require.Equal(t, "d667e567-97b8-8da1-9bb0-94256f502b44", first, "it never changes: ledgers know it")
	require.Equal(t, first, wire.UIDOfOccurrence(schedule, at.In(time.FixedZone("", 3600)).Add(time.Nanosecond), "note", ""), "Postgres has microseconds")
	seen := map[string]bool{first: true}
	for _, uid := range []string{
		wire.UIDOfOccurrence(other, at, "note", ""),
		wire.UIDOfOccurrence(schedule, at.Add(time.Microsecond), "note", ""),
		wire.UIDOfOccurrence(schedule, at, "note2", ""),
		wire.UIDOfOccurrence(schedule, at, "note", other),
		wire.UIDOfOccurrence(schedule, time.Time{}, "note", other),
		wire.UIDOfOccurrence(schedule, time.Time{}, "note", schedule),
	} {
		require.False(t, seen[uid])
		seen[uid] = true
	}
	last := map[byte]int{}
	for n := range 64_000 {
		uid, err := uuid.Parse(wire.UIDOfOccurrence(schedule, at.Add(time.Duration(n)*time.Hour), "note", ""))
		require.NoError(t, err)
		require.EqualValues(t, 8, uid.Version())
		require.Equal(t, uuid.RFC4122, uid.Variant())
		last[uid[15]%64]++
	}
	for _, n := range last {
		require.InDelta(t, 1000, n, 160)
	}
	require.Len(t, last, 64)
}

// What does not fit is left out and named, and the rest is read.
func TestReadMeta(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	const uid, tenant = "0190aaaa-0000-7000-8000-00000000000a", "0190aaaa-0000-4000-8000-00000000000b"
	derived := wire.UIDOfRow(7, at)
	for metadata, want := range map[string]struct {
		uid, tenant, says string
	}{
		`{}`:     {derived, "", ""},
		`null`:   {derived, "", "it is null, and must be a JSON object"},
		`[]`:     {derived, "", "it is [], and must be a JSON object"},
		`"text"`: {derived, "", `it is "text", and must be a JSON object`},
		`{"job_uid": "` + uid + `", "tenant": "` + tenant + `"}`:                                    {uid, tenant, ""},
		`{"job_uid": "` + uid + `", "tenant": "` + tenant + `", "nominal": "yesterday"}`:            {uid, tenant, `nominal is "yesterday", and must be a time in RFC 3339 form`},
		`{"job_uid": "` + uid + `", "tenant": "` + tenant + `", "timeout_ms": 1e300}`:               {uid, tenant, `timeout_ms is 1e300, and must be a whole number`},
		`{"job_uid": "` + uid + `", "tenant": "` + tenant + `", "cancel_request": "please"}`:        {uid, tenant, `cancel_request is "please", and must be an object with "at", a time in RFC 3339 form`},
		`{"job_uid": "------------------------------------", "tenant": "` + tenant + `"}`:           {derived, tenant, `job_uid is "------------------------------------", and must be a UUID in lower case`},
		`{"job_uid": "0190AAAA-0000-7000-8000-00000000000a"}`:                                       {derived, "", `job_uid is "0190AAAA-0000-7000-8000-00000000000a", and must be a UUID in lower case`},
		`{"job_uid": 7, "tenant": [1]}`:                                                             {derived, "", `job_uid is 7, and must be a text`},
		`{"JOB_UID": "` + uid + `", "Tenant": "` + tenant + `"}`:                                    {derived, "", ""},
		`{"job_uid": "` + uid + `", "tenant": "acme"}`:                                              {uid, "", `tenant is "acme", and must be a UUID in lower case`},
		`{"job_uid": "", "tenant": null}`:                                                           {derived, "", ""},
		`{"job_uid": "` + uid + `", "tenant": "` + tenant + `", "nominal": "2026-11-28T01:02:03Z"}`: {uid, tenant, ""},
	} {
		m, err := wire.ReadMeta([]byte(metadata), 7, at)
		require.Equal(t, want.uid, m.UID, metadata)
		require.Equal(t, want.tenant, m.Tenant, metadata)
		if want.says == "" {
			require.NoError(t, err, metadata)
		} else {
			require.EqualError(t, err, want.says, metadata)
		}
	}
}

// Every key of ours is read one by one as it is all at once.
func TestMetaIsReadWholeOrByKey(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	whole := wire.Meta{
		UID: "0190aaaa-0000-7000-8000-00000000000a", Tenant: "0190aaaa-0000-4000-8000-00000000000b", Database: "0190aaaa-0000-4000-8000-00000000000c",
		TimeoutMS: 5, Schedule: "s", Nominal: &at, Effective: &at, Parent: "p", RerunOf: "r", TraceParent: "t", TracedAs: "a",
		Cancel: &jobs.CancelRequest{By: "ana", At: at}, Tombstone: "u",
	}
	raw, err := json.Marshal(whole)
	require.NoError(t, err)
	read, err := wire.ReadMeta(raw, 1, at)
	require.NoError(t, err)
	require.Equal(t, whole, read)
}
