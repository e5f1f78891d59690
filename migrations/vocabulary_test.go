package migrations_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// A rule that stands in a function must cost what it cost in the statement: the planner
// sees through the function and finds the index.
func TestVocabularyIsInlined(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	for name, wants := range map[string]struct{ sql, index, condition string }{
		"claim_incarnation": {`SELECT id FROM river_job WHERE state = 'running' AND headgate.claim_incarnation(attempted_by) = 'x'`, "river_job_headgate_running", "split_part"},
		"has_uid":           {`SELECT id FROM river_job WHERE state <> 'completed' AND headgate.has_uid(metadata, 'x')`, "river_job_headgate_uid", "job_uid"},
		"living_workers":    {`SELECT incarnation FROM headgate.living_workers`, "workers_alive", ""},
	} {
		require.NoError(t, pgx.BeginFunc(context.Background(), env.Pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(context.Background(), `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`)
			require.NoError(t, err)
			var plan []struct {
				Plan struct {
					Index     string `json:"Index Name"`
					Condition string `json:"Index Cond"`
				}
			}
			require.NoError(t, tx.QueryRow(context.Background(), `EXPLAIN (FORMAT JSON) `+wants.sql).Scan(&plan))
			require.Equal(t, wants.index, plan[0].Plan.Index, name)
			require.Contains(t, plan[0].Plan.Condition, wants.condition, name)
			require.NotContains(t, plan[0].Plan.Condition, "headgate.", name)
			return nil
		}))
	}
}

// The rules by example.
func TestVocabulary(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	const claim = "0190aaaa-0000-7000-8000-000000000041:7"
	for sql, want := range map[string]string{
		`coalesce(headgate.claim_token(NULL), 'none')`:                                    "none",
		`coalesce(headgate.claim_token('{}'), 'none')`:                                    "none",
		`headgate.claim_token('{other,` + claim + `}')`:                                   claim,
		`headgate.claim_incarnation('{` + claim + `}')`:                                   claim[:36],
		`headgate.is_claimed('{` + claim + `}')::text`:                                    "true",
		`headgate.is_claimed('{` + claim + `:lost}')::text`:                               "true",
		`headgate.is_claimed('{some-other-client}')::text`:                                "false",
		`headgate.is_claimed(NULL)::text`:                                                 "false",
		`headgate.void_claim('{first,` + claim + `}')::text`:                              "{first," + claim + ":lost}",
		`headgate.void_claim(headgate.void_claim('{` + claim + `}'))::text`:               "{" + claim + ":lost}",
		`headgate.void_claim('{}')::text`:                                                 "{:lost}",
		`headgate.void_claim('{{a,b},{c,d}}')::text`:                                      "{:lost}",
		`headgate.void_claim(NULL)::text`:                                                 "{:lost}",
		`headgate.has_uid('{"job_uid": "u"}', 'u')::text`:                                 "true",
		`headgate.has_uid('{"job_uid": "v"}', 'u')::text`:                                 "false",
		`headgate.has_uid('{}', 'u')::text`:                                               "false",
		`headgate.notify_queues('{a,b,a}')::text`:                                         "2",
		`headgate.notify_queues(NULL)::text`:                                              "0",
		`headgate.notify_queues('{}')::text`:                                              "0",
		`headgate.silent(clock_timestamp() - interval '1 hour', interval '30 s')::text`:   "true",
		`headgate.silent(clock_timestamp() + interval '1 hour', interval '30 s')::text`:   "true",
		`headgate.silent(clock_timestamp() - interval '1 hour', interval '2 hour')::text`: "false",
	} {
		var got string
		require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT `+sql).Scan(&got), sql)
		require.Equal(t, want, got, sql)
	}
}
