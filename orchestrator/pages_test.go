package orchestrator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Every list of the central side comes in pages: item by item it is the whole list, in its
// order. A page that is too large is refused, as is one that begins where no list has said.
// A method that takes a page and has no case here fails the test.
func TestEveryListComesInPages(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for n := range 3 {
		env.Database(fmt.Sprintf("db%d", n), jobstest.DatabaseOpts{})
		env.Tenant(fmt.Sprintf("paged%d", n), fmt.Sprintf("db%d", n))
		for subject, name := range map[admission.Subject]string{admission.OfKind: fmt.Sprintf("k.%d", n), admission.OfTenant: fmt.Sprintf("paged%d", n)} {
			_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: subject, Name: name, MaxRunning: new(n + 1)})
			require.NoError(t, err)
			_, err = env.Admission.Pause(ctx, subject, name, nil)
			require.NoError(t, err)
		}
		roomtest.Register(t, env, uuid.NewString(), []string{fmt.Sprintf("k.%d", n)}, []string{"default"})
	}
	_, err := env.Catalog.AddServer(ctx, catalog.ServerParams{Name: "another", Hosts: []string{"db1.example.com"}})
	require.NoError(t, err)
	job := roomtest.Enqueue(t, env)
	roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), $1, 1, 'note', n, 'snoozed', now(), now() FROM generate_series(1, 3) n`, job.UID)
	roomtest.Do(t, env, `
INSERT INTO headgate.job_logs (id, job_uid, attempt, ended_at, lines)
SELECT gen_random_uuid(), $1, n, now(), '{"msg": "one"}' || E'\n' || '{"msg": "two"}' FROM generate_series(1, 2) n`, job.UID)
	for _, kind := range []string{"note", "note.*"} {
		_, _, err := env.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: "postgres", Kind: kind})
		require.NoError(t, err)
	}
	s := roomtest.CreateWith(t, env, "nightly", "@daily", schedule.Policy{Overlap: schedule.OverlapAllow})
	for range 2 {
		_, err := env.Schedules.Trigger(ctx, schedule.Key{Tenant: s.Tenant, Name: s.Name}, nil)
		require.NoError(t, err)
		_, err = env.Schedules.Edit(ctx, schedule.Key{Tenant: s.Tenant, Name: s.Name}, schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "@hourly"}})
		require.NoError(t, err)
	}
	roomtest.CreateWith(t, env, "weekly", "@weekly", schedule.Policy{})

	var all selector.Selector
	_, err = env.Admission.PauseSelected(ctx, all, nil, nil)
	require.NoError(t, err)
	weight := 2.0
	_, err = env.Admission.SetLimitSelected(ctx, all, admission.Limit{Weight: &weight}, nil)
	require.NoError(t, err)

	type list func(page jobs.Page) (items []string, next string, err error)
	lists := map[string]list{
		"Client.Jobs": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Client.Jobs(ctx, jobs.JobFilter{Page: p}))
		},
		"Client.Attempts": func(p jobs.Page) ([]string, string, error) { return texts(env.Client.Attempts(ctx, job.UID, p)) },
		"Client.JobLogs":  func(p jobs.Page) ([]string, string, error) { return texts(env.Client.JobLogs(ctx, job.UID, p)) },
		"Catalog.Tenants": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Catalog.Tenants(ctx, catalog.TenantFilter{Page: p}))
		},
		"Catalog.Databases": func(p jobs.Page) ([]string, string, error) { return texts(env.Catalog.Databases(ctx, p)) },
		"Catalog.Servers":   func(p jobs.Page) ([]string, string, error) { return texts(env.Catalog.Servers(ctx, p)) },
		"Control.Limits":    func(p jobs.Page) ([]string, string, error) { return texts(env.Admission.Limits(ctx, "", p)) },
		"Control.Pauses":    func(p jobs.Page) ([]string, string, error) { return texts(env.Admission.Pauses(ctx, p)) },
		"Control.LimitsSelected": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Admission.LimitsSelected(ctx, all, p))
		},
		"Control.PausesSelected": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Admission.PausesSelected(ctx, all, p))
		},
		"Control.EnqueueGrants": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Admission.EnqueueGrants(ctx, "", p))
		},
		"Control.Names": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Admission.Names(ctx, admission.OfTenant, p))
		},
		"Explainer.Workers": func(p jobs.Page) ([]string, string, error) { return texts(env.Explain.Workers(ctx, p)) },
		"Store.List": func(p jobs.Page) ([]string, string, error) {
			return texts(env.Schedules.List(ctx, schedule.Filter{Page: p}))
		},
		"Store.Occurrences": func(p jobs.Page) ([]string, string, error) { return texts(env.Schedules.Occurrences(ctx, s.ID, p)) },
		"Store.Changes":     func(p jobs.Page) ([]string, string, error) { return texts(env.Schedules.Changes(ctx, s.ID, p)) },
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			whole, next, err := list(jobs.Page{})
			require.NoError(t, err)
			require.Empty(t, next)
			require.Greater(t, len(whole), 1, "the test needs two items")
			var single []string
			for page := (jobs.Page{Limit: 1}); ; {
				items, next, err := list(page)
				require.NoError(t, err)
				require.Len(t, items, 1)
				if single = append(single, items...); next == "" {
					break
				}
				page.After = next
			}
			require.Equal(t, whole, single)
			for _, limit := range []int{-1, 10_001} {
				_, _, err := list(jobs.Page{Limit: limit})
				require.ErrorAs(t, err, new(*jobs.InputError))
			}
		})
	}
	for _, room := range []any{env.Client, env.Catalog, env.Admission, env.Explain, env.Schedules, env.Schedules.Templates, env.Schedules.Calendars, env.Schedules.Files} {
		of := reflect.TypeOf(room)
		for i := range of.NumMethod() {
			for in := range of.Method(i).Type.Ins() {
				if in == reflect.TypeFor[jobs.Page]() || in.Kind() == reflect.Struct && embedsPage(in) {
					require.Contains(t, lists, of.Elem().Name()+"."+of.Method(i).Name)
				}
			}
		}
	}
}

func embedsPage(of reflect.Type) bool {
	field, ok := of.FieldByName("Page")
	return ok && field.Type == reflect.TypeFor[jobs.Page]()
}

// texts are items of any type as JSON.
func texts[T any](items []T, next string, err error) ([]string, string, error) {
	list := make([]string, len(items))
	for i, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			return nil, "", err
		}
		list[i] = string(text)
	}
	return list, next, err
}
