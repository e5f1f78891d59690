package schedule_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
)

// What waits behind the removal of a tenant or the deletion of a calendar, and then would name
// what is gone, is refused, and nothing is written.
func TestWhatWaitsBehindARemovalIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	spec := schedule.Spec{Cron: "@daily"}
	free := spec
	free.Policy.Calendars = []string{"holidays"}
	file := schedule.File{Name: "f", Templates: []schedule.TemplateParams{{Name: "filed", Spec: free, Args: roomtest.Note{}, Select: selector.Selector{}}}}
	for name, c := range map[string]struct {
		change func(s *schedule.Store) error
		of     string // what goes: the tenant or the calendar
		is     error
	}{
		"create": {func(s *schedule.Store) error {
			_, err := s.Create(ctx, schedule.Params{Tenant: "acme", Name: "new", Spec: spec, Args: roomtest.Note{}})
			return err
		}, "tenant", jobs.ErrUnknownTenant},
		"blackout": {func(s *schedule.Store) error {
			return s.Calendars.SetBlackout(ctx, schedule.Blackout{Name: "b", Tenant: "acme", Spans: []string{"01:00-02:00"}})
		}, "tenant", jobs.ErrUnknownTenant},
		"override": {func(s *schedule.Store) error {
			_, err := s.Templates.Set(ctx, schedule.TemplateParams{Name: "all", Spec: spec, Args: roomtest.Note{}, Overrides: []schedule.Override{{Tenant: "acme", Cron: "@hourly"}}})
			return err
		}, "tenant", jobs.ErrUnknownTenant},
		"create with a calendar": {func(s *schedule.Store) error {
			_, err := s.Create(ctx, schedule.Params{Tenant: "brick", Name: "new", Spec: free, Args: roomtest.Note{}})
			return err
		}, "calendar", schedule.ErrUnknownCalendar},
		"template": {func(s *schedule.Store) error {
			_, err := s.Templates.Set(ctx, schedule.TemplateParams{Name: "all", Spec: free, Args: roomtest.Note{}})
			return err
		}, "calendar", schedule.ErrUnknownCalendar},
		"file": {func(s *schedule.Store) error { _, err := s.Files.Apply(ctx, file); return err }, "calendar", schedule.ErrUnknownCalendar},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			require.NoError(t, env.Schedules.Calendars.Set(ctx, "holidays", nil))
			tx, err := env.Pool.Begin(ctx)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(ctx) }()
			require.NoError(t, map[string]func(tx pgx.Tx) error{
				"tenant": func(tx pgx.Tx) error {
					_, err := env.Catalog.Editor().RemoveTx(ctx, tx, []string{"acme"}, nil)
					return err
				},
				"calendar": func(tx pgx.Tx) error { return env.Schedules.Calendars.DeleteTx(ctx, tx, "holidays") },
			}[c.of](tx))
			done := make(chan error, 1)
			go func() { done <- c.change(env.Schedules) }()
			awaitBlocked(t, env, done)
			require.NoError(t, tx.Commit(ctx))
			require.ErrorIs(t, <-done, c.is)
			for _, table := range []string{"schedules", "fleets", "fleet_overrides", "closures"} {
				require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.`+table), table)
			}
		})
	}
}
