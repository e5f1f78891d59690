package kinds_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/kinds"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}

type common struct {
	By   string `json:"by"`
	Note string `json:"note,omitempty"`
}

type hard struct{ n int }

func (h *hard) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%d", h.n), nil } // nil panics

// args has a field of each sort.
type args struct {
	common
	*jobs.FollowUpOpts
	Plain   string
	Named   []string          `json:"named"`
	Pointer *int              `json:"pointer"`
	At      time.Time         `json:"at"`
	Maybe   string            `json:"maybe,omitempty"`
	Zero    time.Time         `json:"zero,omitzero"`
	Labels  map[string]string `json:",omitempty"`
	Left    string            `json:"-"`
	Hard    *hard             `json:"hard"`
	hidden  string
}

func (args) Kind() string { return "args" }

func (args) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: "q", Priority: 2, Login: jobs.LoginOwner, Scope: jobs.ScopeDatabase}
}

type pointed args

func (*pointed) Kind() string { return "pointed" }

type own struct{ args }

func (own) Kind() string                 { return "own" }
func (own) MarshalJSON() ([]byte, error) { return []byte(`{"always": 1}`), nil }

type refusing struct {
	Name refusal `json:"name"`
}

type refusal string

func (refusing) Kind() string { return "refusing" }
func (r refusal) MarshalText() ([]byte, error) {
	if r == "" {
		return nil, errors.New("empty")
	}
	return []byte(r), nil
}

type panicking struct {
	Hard panics `json:"hard"`
}

type panics struct{ of *hard }

func (panicking) Kind() string                { return "panicking" }
func (p panics) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%d", p.of.n), nil }

// Required is what the Go client writes of every value; the rest of a form is the kind's own.
func TestFormOf(t *testing.T) {
	t.Parallel()
	required := []string{"Plain", "at", "by", "hard", "named", "pointer"}
	form := kinds.FormOf(args{hidden: "x"})
	require.Equal(t, required, form.Required)
	require.Equal(t, required, kinds.FormOf(&pointed{}).Required)
	require.Equal(t, []any{"args", "database", "owner", "q", 2, 25}, []any{form.Kind, form.Scope, form.Login, form.Queue, form.Priority, form.MaxAttempts})
	plain := kinds.FormOf(&pointed{})
	require.Equal(t, []any{"pointed", "tenant", "job", "default", 1, 25}, []any{plain.Kind, plain.Scope, plain.Login, plain.Queue, plain.Priority, plain.MaxAttempts})
	for _, like := range []jobs.Args{own{}, refusing{}, panicking{}} {
		require.Equal(t, []string{}, kinds.FormOf(like).Required, like.Kind())
	}
	for _, filled := range []args{{Maybe: "x", Labels: map[string]string{"a": "b"}, Hard: &hard{1}, Named: []string{"x"}}, {}} {
		raw, err := json.Marshal(filled)
		require.NoError(t, err)
		var names map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &names))
		for _, name := range required {
			require.Contains(t, names, name)
		}
	}
}

// A form is renewed when half of its time is over, by one of many, and not before.
func TestPublish(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	forms := []kinds.Form{kinds.FormOf(args{}), kinds.FormOf(refusing{})}
	publish := func(lasts time.Duration) (rows int, version string, left time.Duration) {
		require.NoError(t, kinds.Publish(ctx, env.Pool, forms, lasts))
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*), string_agg(xmin::text, ' ' ORDER BY kind), min(alive_until) - now() FROM headgate.kinds`).Scan(&rows, &version, &left))
		return rows, version, left
	}
	rows, first, left := publish(time.Hour)
	require.Equal(t, 2, rows)
	require.InDelta(t, time.Hour, left, float64(time.Minute))
	_, second, _ := publish(time.Hour)
	require.Equal(t, first, second, "nothing is written while the time is not half over")
	_, shorter, left := publish(time.Minute)
	require.Equal(t, first, shorter)
	require.Greater(t, left, 58*time.Minute, "a shorter time takes nothing away")
	_, longer, left := publish(3 * time.Hour)
	require.NotEqual(t, first, longer)
	require.Greater(t, left, 2*time.Hour)
	forms[0].Required = append(forms[0].Required, "more")
	rows, _, _ = publish(time.Hour)
	require.Equal(t, 3, rows, "another form of the kind stands beside the first")
	require.NoError(t, kinds.Publish(ctx, env.Pool, nil, time.Hour))
}
