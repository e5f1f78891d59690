package schedule_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// statementCount counts the statements of a pool's connections.
type statementCount struct{ n atomic.Int64 }

func (s *statementCount) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}

func (s *statementCount) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// An apply and a plan are as many statements for 100 schedules with overrides as for
// four, and so are the apply that changes them all and the one that deletes them.
func TestAnApplyIsAFewStatementsWhateverItsSize(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	cfg := env.Pool.Config()
	counted := &statementCount{}
	cfg.ConnConfig.Tracer, cfg.MaxConns = counted, 1
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	defer pool.Close()
	store, err := schedule.New(schedule.Config{Pool: pool, Catalog: env.Catalog, Logger: env.Log})
	require.NoError(t, err)
	file := func(n int, cron string) schedule.File {
		file := schedule.File{Name: "site"}
		for i := range n {
			file.Templates = append(file.Templates, schedule.TemplateParams{
				Name: fmt.Sprintf("s-%d", i), Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: cron}, Overrides: []schedule.Override{{Tenant: "acme", Zone: "Asia/Tokyo"}, {Tenant: "brick", Cron: "@weekly"}},
			})
		}
		return file
	}
	costs := func(n int) (statements []int64) {
		for _, f := range []schedule.File{file(n, "@daily"), file(n, "@daily"), file(n, "@hourly"), {Name: "site"}} {
			before := counted.n.Load()
			_, err := store.Files.Plan(ctx, f)
			require.NoError(t, err)
			steps, err := store.Files.Apply(ctx, f)
			require.NoError(t, err)
			if len(steps) > 0 {
				require.Len(t, steps, n)
				require.Equal(t, 2, max(steps[0].Before, steps[0].Tenants), "both tenants")
			}
			statements = append(statements, counted.n.Load()-before)
		}
		return statements
	}
	require.Equal(t, costs(4), costs(100))
}

// A calendar that cannot be read stops the files that name it, and no other; the file
// that gives it anew puts it right.
func TestAnUnreadableCalendarStopsWhoNamesIt(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	file := schedule.File{Name: "site", Calendars: map[string][]calendar.DayRange{"feasts": nil}, Templates: []schedule.TemplateParams{
		{Name: "nightly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily", Policy: schedule.Policy{Calendars: []string{"feasts"}}}},
	}}
	_, err := env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	roomtest.Do(t, env, `UPDATE headgate.calendars SET days = '[{"from": "tomorrow"}]'`)
	_, err = env.Schedules.Files.Plan(ctx, schedule.File{Name: "other", Templates: []schedule.TemplateParams{{Name: "hourly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@hourly"}}}})
	require.NoError(t, err)
	_, err = env.Schedules.Files.Plan(ctx, schedule.File{Name: "other", Templates: []schedule.TemplateParams{
		{Name: "hourly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@hourly", Policy: schedule.Policy{Calendars: []string{"feasts"}}}},
	}})
	require.ErrorContains(t, err, "calendar feasts cannot be read")
	for _, steps := range []int{1, 0} {
		did, err := env.Schedules.Files.Apply(ctx, file)
		require.NoError(t, err)
		require.Len(t, did, steps)
	}
}
