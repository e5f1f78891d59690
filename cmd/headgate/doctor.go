package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const doctorLong = `Look at the central database, the keys, the servers and a sample of the databases,
and say of each whether it is fit for work, and if not, what to do.

At most --databases databases are connected to (20 unless set), those with the
most tenants first, a few on each server; --server and --tenant look at one
server's or one tenant's only. Nothing is changed anywhere.

The exit code is 1 if anything fails; warnings do not count.`

// The states of a finding.
const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "fail"
)

// finding is one thing that was looked at. It is the shape of `doctor -o json`.
type finding struct {
	On    string `json:"on"` // central, keys, server NAME, database NAME
	Check string `json:"check"`
	State string `json:"state"` // ok, warn or fail
	Says  string `json:"says"`
	Next  string `json:"next,omitempty"`
}

var findingColumns = []column[finding]{
	{"on", func(f finding) any { return f.On }},
	{"check", func(f finding) any { return f.Check }},
	{"state", func(f finding) any { return f.State }},
	{"says", func(f finding) any { return f.Says }},
	{"next", func(f finding) any { return f.Next }},
}

// doctor looks and notes. Its methods are safe for concurrent use.
type doctor struct {
	p         *program
	server    string
	tenant    string
	databases int
	rootCerts string
	openFor   time.Duration // from when on a transaction in the central database is open for too long

	mu       sync.Mutex
	findings []finding // guarded by mu
}

func (p *program) doctorCommand() *cobra.Command {
	d := &doctor{p: p}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether everything is fit for work, and say what to do where not",
		Long:  doctorLong,
		Args:  names(),
		RunE:  brief(func(ctx context.Context, _ []string) error { return d.run(ctx) }),
	}
	cmd.Flags().StringVar(&d.server, "server", "", "only this server and databases on it")
	cmd.Flags().StringVar(&d.tenant, "tenant", "", "only this tenant's database (slug, UUID or org_id)")
	cmd.Flags().IntVar(&d.databases, "databases", 20, "how many databases to connect to at most")
	cmd.Flags().DurationVar(&d.openFor, "open-for", 10*time.Minute, "how long a transaction may be open in the central database before it is warned of")
	rootCertsFlag(cmd, &d.rootCerts)
	return cmd
}

// on notes what was found of one thing.
func (d *doctor) on(what string) func(state, check, next, says string, args ...any) {
	return func(state, check, next, says string, args ...any) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.findings = append(d.findings, finding{On: what, Check: check, State: state, Says: fmt.Sprintf(says, args...), Next: next})
	}
}

func (d *doctor) run(ctx context.Context) error {
	if d.databases < 0 || d.server != "" && d.tenant != "" {
		return usagef("--databases is 0 or more, and --server goes without --tenant")
	}
	if err := d.look(ctx); err != nil {
		return err
	}
	failed := 0
	for _, f := range d.findings {
		if f.State == stateFail {
			failed++
		}
	}
	if err := list(d.p, d.findings, "nothing to look at", findingColumns); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed: what to do stands beside each", failed, len(d.findings))
	}
	return nil
}

// look stops with an error only where the user asked for what is not there.
func (d *doctor) look(ctx context.Context) error {
	pool, ok, err := d.central(ctx)
	if pool != nil {
		defer pool.Close()
	}
	if err != nil || !ok {
		return err
	}
	ring, err := d.p.keys()
	if err != nil {
		d.on("keys")(stateFail, "ring", "set HEADGATE_KEY or HEADGATE_KEY_FILE", "%v", err)
	}
	r, err := d.p.roomsOn(pool, ring)
	if err != nil {
		return err
	}
	d.claims(ctx, r.client)
	if ring != nil {
		d.keys(ctx, r.catalog)
	}
	servers, chosen, err := d.choose(ctx, r.catalog)
	if err != nil {
		return err
	}
	if ring == nil {
		return nil
	}
	var group sync.WaitGroup
	for _, server := range servers {
		group.Go(func() { d.lookAtServer(ctx, r.catalog, server, chosen[server.Name]) })
	}
	group.Wait()
	slices.SortStableFunc(d.findings, func(a, b finding) int { return cmp.Compare(rank(a), rank(b)) })
	return nil
}

// rank keeps the order of looking whatever came first: the centre, then servers
// by name with their databases.
func rank(f finding) string {
	switch f.On {
	case "central":
		return "0"
	case "keys":
		return "1"
	case "sample":
		return "2"
	}
	return "3" + f.On[:1] + f.On // databases, then servers
}

func (d *doctor) keys(ctx context.Context, c *catalog.Catalog) {
	note := d.on("keys")
	keys, err := c.KeysInUse(ctx)
	if err != nil {
		note(stateFail, "ring", "", "%v", err)
		return
	}
	for _, k := range keys {
		if k.Known {
			note(stateOK, "key "+k.ID, "", "the ring has it; it seals %d addresses", k.Seals)
		} else {
			note(stateFail, "key "+k.ID, "add it behind the first in HEADGATE_KEY, or store the addresses again with `headgate database login`",
				"the ring lacks it; %d addresses are sealed with it, and their databases cannot be worked on", k.Seals)
		}
	}
	if len(keys) == 0 {
		note(stateOK, "ring", "", "no address is sealed yet")
	}
}

// claims looks whether the workers get jobs out of the queues.
func (d *doctor) claims(ctx context.Context, client *orchestrator.Client) {
	note := d.on("central")
	workers, err := client.Workers(ctx)
	if err != nil {
		note(stateFail, "claims", "", "could not look: %v", err)
		return
	}
	failing := false
	for _, w := range workers {
		for _, f := range w.Claims.Failing {
			if w.State == orchestrator.WorkerAlive && f.Lasts() {
				failing = true
				note(stateFail, "claims", "see that worker's log, and the central database's",
					"claims of queue %s fail on worker %s since %s, %d in a row: %s", f.Queue, w.Name, f.Since.UTC().Format(time.DateTime+" UTC"), f.Times, f.Error)
			}
		}
	}
	if !failing {
		note(stateOK, "claims", "", "no worker's claims fail")
	}
}

// choose says which databases to connect to, by their servers' names.
func (d *doctor) choose(ctx context.Context, c *catalog.Catalog) (servers []catalog.Server, chosen map[string][]catalog.Database, err error) {
	all, err := c.Databases(ctx)
	if err != nil {
		return nil, nil, err
	}
	if servers, err = c.Servers(ctx); err != nil {
		return nil, nil, err
	}
	if d.tenant != "" {
		tenant, err := c.Tenant(ctx, d.tenant)
		if err != nil {
			return nil, nil, err
		}
		all = slices.DeleteFunc(all, func(db catalog.Database) bool { return db.ID != tenant.DatabaseID })
		servers = slices.DeleteFunc(servers, func(s catalog.Server) bool { return len(all) == 0 || s.Name != all[0].Server })
	}
	if d.server != "" {
		found, err := findServer(ctx, c, d.server)
		if err != nil {
			return nil, nil, err
		}
		servers = []catalog.Server{found}
		all = slices.DeleteFunc(all, func(db catalog.Database) bool { return db.Server != d.server })
	}
	slices.SortStableFunc(all, func(a, b catalog.Database) int { return cmp.Compare(b.Tenants, a.Tenants) })
	queue, left := map[string][]catalog.Database{}, len(all)
	for _, db := range all {
		queue[db.Server] = append(queue[db.Server], db)
	}
	chosen = map[string][]catalog.Database{}
	n := 0
	for n < d.databases && left > 0 {
		for _, s := range servers {
			if more := queue[s.Name]; len(more) > 0 && n < d.databases {
				chosen[s.Name], queue[s.Name] = append(chosen[s.Name], more[0]), more[1:]
				n, left = n+1, left-1
			}
		}
	}
	if left > 0 {
		d.on("sample")(stateOK, "databases", "--databases N looks at more", "%d of %d databases are connected to", n, len(all))
	}
	return servers, chosen, nil
}

// patience bounds what is asked of one database.
const patience = 10 * time.Second
