package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenancy"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
	"github.com/headgate/headgate/worker"
)

// edit is one change that a program or an operator makes. Its numbers choose tenants and
// values.
type edit struct {
	What    string
	A, B, N int
}

var edits = map[string]func(context.Context, *installation, edit) error{
	"add": func(ctx context.Context, e *installation, d edit) error {
		_, err := e.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: slugOf(d.A), Plan: planOf(d.B), Database: databaseOf(d.N)})
		return err
	},
	"status": func(ctx context.Context, e *installation, d edit) error {
		to := []catalog.Status{catalog.Suspended, catalog.Active, catalog.Active, catalog.Archived}[d.N%4]
		change := catalog.StatusChange{To: to, Reason: "drawn", Waiting: []catalog.Waiting{"", catalog.HoldWaiting, catalog.CancelWaiting}[d.B%3]}
		_, err := e.Catalog.Editor().SetStatus(ctx, someSlugs(d), change)
		return err
	},
	"remove": func(ctx context.Context, e *installation, d edit) error {
		_, err := e.Catalog.Editor().Remove(ctx, []string{slugOf(d.A)}, &catalog.RemoveOpts{DryRun: d.N%3 > 0})
		return err
	},
	"rename": func(ctx context.Context, e *installation, d edit) error {
		_, err := e.Catalog.Editor().Rename(ctx, slugOf(d.A), slugOf(d.B))
		return err
	},
	"plan": func(ctx context.Context, e *installation, d edit) error {
		_, err := e.Catalog.Editor().Change(ctx, someSlugs(d), catalog.TenantChange{Plan: text(planOf(d.B))})
		return err
	},
	"words": func(ctx context.Context, e *installation, d edit) error { // of a tenant as somebody has seen it
		seen, err := e.Catalog.Tenant(ctx, slugOf(d.A))
		if err != nil {
			return err
		}
		_, err = e.Catalog.Editor().Change(ctx, []string{seen.ID}, catalog.TenantChange{
			Version: seen.Version, Name: text(fmt.Sprintf("Tenant %d", d.N)), Labels: map[string]*string{"tier": text(fmt.Sprint(d.B % 3)), "old": nil},
		})
		return err
	},
	"feature": func(ctx context.Context, e *installation, d edit) error {
		value := text([]string{"on", "off"}[d.B%2])
		if d.N%3 == 0 {
			value = nil
		}
		_, err := e.Catalog.Editor().Change(ctx, someSlugs(d), catalog.TenantChange{Features: map[string]*string{"beta": value}})
		return err
	},
	"plan's feature": func(ctx context.Context, e *installation, d edit) error {
		_, err := e.Catalog.Plans().Set(ctx, planOf(d.A), catalog.PlanChange{Features: map[string]*string{"beta": text([]string{"on", "off"}[d.B%2])}})
		return err
	},
	"brand": func(ctx context.Context, e *installation, d edit) error {
		if d.N%3 == 0 {
			return e.Catalog.Brands().Remove(ctx, slugOf(d.A), d.B%4)
		}
		_, err := e.Catalog.Brands().Set(ctx, slugOf(d.A), d.B%4, fmt.Sprintf("Brand %d", d.N))
		return err
	},
	"domain": func(ctx context.Context, e *installation, d edit) error {
		if d.N%3 == 0 {
			return e.Catalog.Domains().Remove(ctx, slugOf(d.A), domainOf(d.B))
		}
		return e.Catalog.Domains().Add(ctx, slugOf(d.A), domainOf(d.B), catalog.DomainCustom)
	},
	"limit": func(ctx context.Context, e *installation, d edit) (err error) {
		weight, most := float64(d.B%5+1), d.N%4+1
		limit := admission.Limit{Subject: admission.OfTenant, Name: slugOf(d.A), Weight: &weight}
		if d.N%2 == 0 {
			limit = admission.Limit{Subject: admission.OfPlan, Name: planOf(d.A), Weight: &weight, MaxRunning: &most}
		}
		if d.N%5 == 0 {
			_, err = e.Admission.ClearLimit(ctx, limit.Subject, limit.Name, admission.LimitFields{})
			return err
		}
		_, err = e.Admission.SetLimit(ctx, limit)
		return err
	},
	"pause": func(ctx context.Context, e *installation, d edit) error {
		if d.N%2 == 0 {
			_, err := e.Admission.Resume(ctx, admission.OfTenant, slugOf(d.A))
			return err
		}
		_, err := e.Admission.Pause(ctx, admission.OfTenant, slugOf(d.A), &admission.PauseOpts{By: "ines"})
		return err
	},
	"move": func(ctx context.Context, e *installation, d edit) error {
		return e.move(ctx, slugOf(d.A), databaseOf(d.B))
	},
	"template": func(ctx context.Context, e *installation, d edit) error {
		if d.N%4 == 0 {
			return e.Schedules.Templates.Delete(ctx, templateOf(d.A), schedule.TemplateDeletion{})
		}
		selects, err := selector.Parse([]string{"plan = p1", "feature.beta", "label.tier = 1 or plan = p2", "not feature.beta and status = active", "database = two", "tenant in (s1, s2, s3)"}[d.B%6])
		if err != nil {
			return err
		}
		_, err = e.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: templateOf(d.A), Select: selects, Args: roomtest.Note{}, Spec: schedule.Spec{Cron: fmt.Sprintf("%d 3 1 1 *", d.N%60)}})
		return err
	},
	"enqueue": func(ctx context.Context, e *installation, d edit) error {
		for range d.N%3 + 1 {
			made, err := e.Client.Enqueue(ctx, slugOf(d.A), roomtest.Note{}, nil)
			if err != nil {
				return err
			}
			e.accept(made.UID)
		}
		return nil
	},
	"schedule": func(ctx context.Context, e *installation, _ edit) error { // as one more scheduler
		_, _, err := schedule.NewScheduler(e.Schedules, schedule.SchedulerConfig{}).RunOnce(ctx)
		return err
	},
	"organisations": func(ctx context.Context, e *installation, d edit) error {
		_, err := e.Client.EnqueueDatabase(ctx, databaseOf(d.A), organisations, nil)
		return err
	},
}

var organisations = tenancy.Organisations{Table: "public.organisations", Slug: "slug", Remove: true, RemoveMost: 1000}

func slugOf(n int) string     { return fmt.Sprintf("s%d", n%12) }
func planOf(n int) string     { return fmt.Sprintf("p%d", n%4) }
func databaseOf(n int) string { return []string{"one", "two"}[n%2] }
func domainOf(n int) string   { return fmt.Sprintf("d%d.example", n%6) }
func templateOf(n int) string { return fmt.Sprintf("template-%d", n%3) }

// someSlugs are one to three tenants, in an order that is nobody's.
func someSlugs(d edit) (slugs []string) {
	for i := range d.N%3 + 1 {
		slugs = append(slugs, slugOf(d.A+i*(d.B%5+1)))
	}
	return slugs
}

// programs draws what each of some programs does.
var programs = rapid.Custom(func(t *rapid.T) [][]edit {
	names := slices.Sorted(maps.Keys(edits))
	one := rapid.Custom(func(t *rapid.T) edit {
		number := rapid.IntRange(0, 59)
		return edit{rapid.SampledFrom(names).Draw(t, "what"), number.Draw(t, "a"), number.Draw(t, "b"), number.Draw(t, "n")}
	})
	return rapid.SliceOfN(rapid.SliceOfN(one, 25, 25), 4, 4).Draw(t, "programs")
})

// refusals are what an edit may be told; anything else is a fault.
var refusals = []error{
	jobs.ErrUnknownTenant, jobs.ErrTenantSuspended, jobs.ErrTenantMoving, jobs.ErrUnknownBrand, catalog.ErrExists, catalog.ErrChanged, catalog.ErrReferred,
	catalog.ErrUnknownDomain, admission.ErrNoLimit, admission.ErrNotPaused, schedule.ErrUnknown, errNotMoved,
}

var errNotMoved = errors.New("the tenant does not move now")

// installation is an installation with a worker, whose catalog many change.
type installation struct {
	*jobstest.Env
	databases map[string]*jobstest.Database

	mu       sync.Mutex
	accepted []string // UIDs of jobs
}

func (e *installation) accept(uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.accepted = append(e.accepted, uid)
}

// move is what a move of a tenant writes. It sets back since when the tenant is moving,
// because no worker of the test remembers anything from before.
func (e *installation) move(ctx context.Context, tenant, database string) error {
	moving, err := e.Catalog.Editor().SetStatus(ctx, []string{tenant}, catalog.StatusChange{To: catalog.Moving})
	if err != nil {
		return err
	}
	id := moving[0].After.ID
	var moves bool
	err = pgx.BeginFunc(ctx, e.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil { // a trigger lets no writer do so
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE headgate.tenants SET status_since = status_since - interval '1 minute' WHERE id = $1 AND status = 'moving'`, id)
		moves = tag.RowsAffected() == 1
		return err
	})
	if err == nil && moves {
		_, err = e.Pool.Exec(ctx, `UPDATE headgate.tenants t SET database_id = d.id, database_kind = d.kind FROM headgate.databases d WHERE t.id = $1 AND d.name = $2 AND t.status = 'moving'`, id, database)
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "HG020" {
		err = errNotMoved
	}
	if _, back := e.Catalog.Editor().SetStatus(ctx, []string{id}, catalog.StatusChange{To: catalog.Active}); back != nil {
		return back
	}
	return err
}

func newEdited(t *testing.T) *installation {
	t.Helper()
	e := &installation{Env: jobstest.New(t), databases: map[string]*jobstest.Database{}}
	for _, name := range []string{"one", "two"} {
		e.databases[name] = e.Database(name, jobstest.DatabaseOpts{
			Observed: "nobody's rows are kept apart here",
			Schema:   `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text)`,
		})
	}
	_, err := e.Catalog.Features().Set(t.Context(), "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean, Default: text("no")})
	require.NoError(t, err)
	e.work()
	return e
}

// work starts one more worker. A worker that starts sweeps the lanes: one that a claim made
// while its owner changed has a copy of what was before, until a sweep.
func (e *installation) work() {
	cfg := e.Config()
	cfg.HeartbeatEvery, cfg.DeadAfter = 4*time.Second, time.Minute
	e.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[roomtest.Note]) error { return nil })
		worker.InTx(w, tenancy.New(func(ctx context.Context, database string, after int64, limit int) ([]tenancy.Organisation, error) {
			placed, err := e.Catalog.TenantsIn(ctx, database, after, limit)
			list := make([]tenancy.Organisation, len(placed))
			for i, t := range placed {
				list[i] = tenancy.Organisation{OrgID: t.OrgID, OrgKey: t.OrgKey, Slug: t.Slug, Name: t.Name, Kept: t.Status == catalog.Archived || t.Status == catalog.Removed}
			}
			return list, err
		}))
	})
}

// do makes the edits of all programs, beside each other.
func (e *installation) do(t *testing.T, of [][]edit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i, program := range of {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ctx := access.With(ctx, access.Actor{Name: fmt.Sprintf("program %d", i), Surface: "test"})
			for _, d := range program {
				if err := edits[d.What](ctx, e, d); err != nil && !isRefusal(err) {
					t.Errorf("program %d: %+v: %v", i, d, err)
				}
			}
		}()
	}
	wg.Wait()
}

func isRefusal(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	var input *jobs.InputError
	return errors.As(err, &input)
}

// Whatever several programs change at once, in any order: what was copied from the catalog
// agrees with it when they have ended, and every change is on record.
func TestCopiesAgreeAfterConcurrentEdits(t *testing.T) {
	t.Parallel()
	seed := rand.IntN(1 << 30)
	rounds := 4
	if given := os.Getenv("HEADGATE_SEED"); given != "" {
		n, err := strconv.Atoi(given)
		require.NoError(t, err, "HEADGATE_SEED")
		seed, rounds = n, 1
	}
	e := newEdited(t)
	for i := range rounds {
		t.Logf("HEADGATE_SEED=%d repeats round %d", seed+i, i)
		e.do(t, programs.Example(seed+i))
		e.agrees(t)
		if t.Failed() {
			return
		}
	}
}
