package jobs_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// A row without a UID has a UUIDv8 of its number and creation; what time.Time has no
// word for tells rows apart too.
func TestUIDOfRow(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 7, 0, 0, 123456789, time.UTC)
	require.Equal(t, jobs.UIDOfRow(77, at.Truncate(time.Microsecond)), jobs.UIDOfRow(77, at), "Postgres has microseconds")
	seen := map[string]bool{}
	for _, created := range []time.Time{at, at.Add(time.Microsecond), jobs.Infinity, jobs.NegativeInfinity} {
		for _, id := range []int64{77, -77, 0} {
			uid := jobs.UIDOfRow(id, created)
			parsed, err := uuid.Parse(uid)
			require.NoError(t, err)
			require.EqualValues(t, 8, parsed.Version())
			require.Equal(t, uuid.RFC4122, parsed.Variant())
			require.True(t, jobs.IsUID(uid))
			require.False(t, seen[uid])
			seen[uid] = true
		}
	}
}

// What does not fit is left out and named, and the rest is read.
func TestReadMeta(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	const uid, tenant = "0190aaaa-0000-7000-8000-00000000000a", "0190aaaa-0000-4000-8000-00000000000b"
	derived := jobs.UIDOfRow(7, at)
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
		m, err := jobs.ReadMeta([]byte(metadata), 7, at)
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
	whole := jobs.Meta{
		UID: "0190aaaa-0000-7000-8000-00000000000a", Tenant: "0190aaaa-0000-4000-8000-00000000000b", Database: "0190aaaa-0000-4000-8000-00000000000c",
		TimeoutMS: 5, Schedule: "s", Nominal: &at, Effective: &at, Parent: "p", RerunOf: "r", TraceParent: "t",
		Cancel: &jobs.CancelRequest{By: "ana", At: at}, Tombstone: "u",
	}
	raw, err := json.Marshal(whole)
	require.NoError(t, err)
	read, err := jobs.ReadMeta(raw, 1, at)
	require.NoError(t, err)
	require.Equal(t, whole, read)
}

// Times that time.Time's own JSON refuses come through.
func TestTimeInJSON(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		at   time.Time
		want string
	}{
		{jobs.Infinity, `"infinity"`}, {jobs.NegativeInfinity, `"-infinity"`},
		{time.Date(2026, 11, 22, 7, 0, 0, 5000, time.UTC), `"2026-11-22T07:00:00.000005Z"`},
		{time.Date(294276, 12, 31, 0, 0, 0, 0, time.UTC), `"294276-12-31T00:00:00Z"`},
		{time.Date(-43, 3, 15, 0, 0, 0, 0, time.UTC), `"-0043-03-15T00:00:00Z"`},
	} {
		raw, err := json.Marshal(jobs.Time{Time: one.at})
		require.NoError(t, err)
		require.Equal(t, one.want, string(raw))
		require.Equal(t, one.at.Year() == 2026, (jobs.Time{Time: one.at}).Usual() != nil)
	}
	for _, word := range []string{`"infinity"`, `"-infinity"`, `"2026-11-22T07:00:00Z"`} {
		var at jobs.Time
		require.NoError(t, json.Unmarshal([]byte(word), &at))
		raw, err := json.Marshal(at)
		require.NoError(t, err)
		require.Equal(t, word, string(raw))
	}
	require.Equal(t, "infinity", jobs.Time{Time: jobs.Infinity}.In(time.FixedZone("x", 3600)).Format(time.DateOnly))
}
