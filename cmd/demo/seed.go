package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// seed makes up one tenant's rows. A tenant gets the same rows in every demo,
// but for their dates, which count back from now; no two tenants get the same.
type seed struct {
	tenant *tenant
	now    time.Time
	chance *rand.Rand
}

func newSeed(t *tenant, now time.Time) *seed {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(t.slug))                                                 // never fails
	return &seed{tenant: t, now: now, chance: rand.New(rand.NewPCG(hash.Sum64(), 0))} //nolint:gosec // no secret
}

// between returns a number from least to most, both included.
func (s *seed) between(least, most int) int { return least + s.chance.IntN(most-least+1) }

func (s *seed) pick(words []string) string { return words[s.chance.IntN(len(words))] }

// brand is a part of a tenant's business, with points to spend this quarter.
type brand struct {
	id     int
	name   string
	budget int64
}

// task is a ticket of one brand.
type task struct {
	brand                   int
	title, assignee, status string
	points                  int
	created                 time.Time
	done                    *time.Time
}

var (
	brandNames = []string{"Online", "Stores", "Outlet", "Kids", "Pro", "Events", "Partners", "Labs", "Care", "Academy"}
	verbs      = []string{"Fix", "Review", "Rework", "Speed up", "Document", "Translate", "Test", "Replace", "Roll out"}
	things     = []string{
		"the checkout", "the price list", "the newsletter", "the sign-up form", "the stock import", "the invoice layout",
		"the opening hours", "the search page", "the refund rules", "the photo gallery", "the delivery slots", "the loyalty card",
	}
	endings = []string{"", "", "", " on phones", " for new customers", " before the sale", " in the app", ", second try"}
	people  = []string{"Amara", "Bjorn", "Chiara", "Dmitri", "Esther", "Farid", "Giulia", "Hiro", "Ines", "Jamal", "Katya", "Liam"}
)

// brands are two to four for a freemium tenant, five to ten for an enterprise.
func (s *seed) brands() []brand {
	n := s.between(2, 4)
	if s.tenant.plan() == enterprise {
		n = s.between(5, 10)
	}
	list := make([]brand, n)
	for i := range list {
		list[i] = brand{id: i + 1, name: s.tenant.name + " " + brandNames[i], budget: int64(s.between(20, 90) * 10)}
	}
	return list
}

// tasks are some hundred for a freemium tenant, more than a thousand for an
// enterprise.
func (s *seed) tasks(brands int) []task {
	n := s.between(40, 160)
	if s.tenant.plan() == enterprise {
		n = s.between(700, 2100)
	}
	list := make([]task, n)
	for i := range list {
		list[i] = s.task(s.between(1, brands))
	}
	return list
}

// task was made within the last year and a half. The older it is the more
// likely it is done.
func (s *seed) task(brand int) task {
	age := time.Duration(s.between(1, 540*24)) * time.Hour
	t := task{
		brand: brand, title: s.pick(verbs) + " " + s.pick(things) + s.pick(endings), assignee: s.pick(people),
		status: "open", points: s.between(1, 13), created: s.now.Add(-age),
	}
	switch {
	case s.between(0, 300*24) < int(age.Hours()):
		done := t.created.Add(time.Duration(s.between(1, int(age.Hours()))) * time.Hour)
		t.status, t.done = "done", &done
	case s.between(1, 3) == 1:
		t.status = "doing"
	}
	return t
}

// brandKey names a brand among those of all tenants.
type brandKey struct {
	orgID int64
	brand int
}

// plant writes the rows of all tenants of a database and notes the budgets, by
// which the proof will know what was moved.
func (d *database) plant(ctx context.Context, conn *pgx.Conn, now time.Time) error {
	d.budgets = map[brandKey]int64{}
	for _, t := range d.tenants {
		s := newSeed(t, now)
		brands := s.brands()
		tasks := s.tasks(len(brands))
		d.tasks += len(tasks)
		for _, b := range brands {
			d.budgets[brandKey{t.orgID, b.id}] = b.budget
		}
		if err := t.write(ctx, conn, brands, tasks); err != nil {
			return fmt.Errorf("writing the rows of tenant %s: %w", t.slug, err)
		}
	}
	return nil
}

const insertOrganization = `INSERT INTO organizations (org_id, name, plan) VALUES ($1, $2, $3)`

var (
	brandColumns = []string{"org_id", "brand_id", "name", "budget"}
	taskColumns  = []string{"org_id", "task_id", "brand_id", "title", "assignee", "status", "points", "created_at", "done_at"}
)

func (t *tenant) write(ctx context.Context, conn *pgx.Conn, brands []brand, tasks []task) error {
	if _, err := conn.Exec(ctx, insertOrganization, t.orgID, t.name, t.plan()); err != nil {
		return err
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"brands"}, brandColumns, pgx.CopyFromSlice(len(brands), func(i int) ([]any, error) {
		b := brands[i]
		return []any{t.orgID, b.id, b.name, b.budget}, nil
	}))
	if err != nil {
		return err
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"tasks"}, taskColumns, pgx.CopyFromSlice(len(tasks), func(i int) ([]any, error) {
		k := tasks[i]
		return []any{t.orgID, i + 1, k.brand, k.title, k.assignee, k.status, k.points, k.created, k.done}, nil
	}))
	return err
}
