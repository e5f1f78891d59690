package migrations_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/wire"
)

// Which UID a row has is one rule in SQL and in Go, whatever stands in the row.
func TestTheUIDOfARowIsOneRule(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	rows, err := env.Pool.Query(context.Background(), `
SELECT m.metadata, i.id, c.created, headgate.job_uid(m.metadata, i.id, c.created)::text, headgate.uid_of_row(i.id, c.created)::text, headgate.row_of_uid(headgate.uid_of_row(i.id, c.created)::text)
FROM unnest(ARRAY[
    '{}', 'null', '5', '"job_uid"', '[{"job_uid": "0190aaaa-0000-7000-8000-00000000000a"}]', '{"job_uid": null}', '{"job_uid": 7}', '{"job_uid": ""}',
    '{"job_uid": "------------------------------------"}', '{"job_uid": "0190aaaa-0000-7000-8000-00000000000a"}', '{"job_uid": "0190aaaa-0000-7000-8000-00000000000a\n"}',
    '{"job_uid": "0190AAAA-0000-7000-8000-00000000000A"}', '{"JOB_UID": "0190aaaa-0000-7000-8000-00000000000a"}', '{"job_uid": {"a": 1}}', '{"job_uid": ["0190aaaa-0000-7000-8000-00000000000a"]}',
    '{"job_uid": "{0190aaaa-0000-7000-8000-00000000000a}"}', '{"job_uid": "0190aaaa-0000-7000-8000-00000000000a", "nominal": "never", "tenant": 5}']::jsonb[]) AS m (metadata),
  unnest(ARRAY['-9223372036854775808', '-1', '0', '1', '9223372036854775807']::bigint[]) AS i (id),
  unnest(ARRAY['infinity', '-infinity', '4714-11-24 00:00:00+00 BC', '1970-01-01 00:00:00+00', '1999-12-31 23:59:59.999999+00', '2026-11-22 07:00:00.123456+01',
               '294247-01-11 00:00:00+00', '294276-12-31 23:59:59.999999+00']::timestamptz[]) AS c (created)`)
	require.NoError(t, err)
	var metadata []byte
	var id, found int64
	var created jobs.Time
	var uid, derived string
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&metadata, &id, &created, &uid, &derived, &found}, func() error {
		n++
		read, _ := wire.ReadMeta(metadata, id, created.Time)
		require.Equal(t, uid, read.UID, "%s of row %d from %s", metadata, id, created)
		require.Equal(t, derived, wire.UIDOfRow(id, created.Time), "row %d from %s", id, created)
		require.Equal(t, id, found)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 17*5*8, n)
}

// What counts as a UUID is one rule in SQL and in Go, and nothing makes it fail.
func TestWhatIsAUUIDIsOneRule(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	const plain = "0190aaaa-0000-7000-8000-00000000000a"
	texts := rapid.Map(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		text := []byte(plain)
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			text[rapid.IntRange(0, 35).Draw(t, "at")] = rapid.SampledFrom([]byte("-09afgAF{ \n")).Draw(t, "to")
		}
		return rapid.SampledFrom([]string{"", "{", " ", "urn:uuid:"}).Draw(t, "before") + string(text) + rapid.SampledFrom([]string{"", "", "", "}", "\n", "a"}).Draw(t, "after")
	}), 50, 50), func(s []string) []string {
		return append(s, plain, "", "------------------------------------", "0190aaaa00007000800000000000000a")
	})
	rapid.Check(t, func(t *rapid.T) {
		list := texts.Draw(t, "texts")
		rows, err := env.Pool.Query(context.Background(), `SELECT coalesce(headgate.uuid_or_null(x)::text, '') FROM unnest($1::text[]) WITH ORDINALITY AS u (x, i) ORDER BY i`, list)
		require.NoError(t, err)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for i, text := range list {
			want := ""
			if wire.IsUID(text) {
				want = text
			}
			require.Equal(t, want, found[i], "%q", text)
		}
	})
}
