// Package doctor looks whether everything is fit for work, and says what to do where
// something is not.
//
//	doctor.go     the command: what is looked at, in which order
//	findings.go   what is found, and how it is printed
//	central.go    the central database; listen.go sees whether notifications arrive
//	roles.go      as which role doctor is connected, and what the roles lack
//	work.go       whether workers live, serve what waits, and schedules are fired
//	database.go   servers and tenant databases
//	certificates.go  when certificates end
//	isolation.go  what a job login may do in its database
//	pooler.go     what stands before a server
//	replica.go    what a read address leads to
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/centre"
	"github.com/headgate/headgate/worker/tenantdb"
)

const doctorLong = `Look at the central database, the keys, the servers and a sample of the databases,
and say of each whether it is fit for work, and if not, what to do.

At most --databases databases are connected to (20 unless set), those with the
most tenants first, a few on each server; --server and --tenant look at one
server's or one tenant's only. Nothing is changed anywhere.

It also says whether work is done: whether workers live, and serve the queues and
kinds that jobs wait in, and whether schedules are fired.

The exit code is 1 if anything fails; warnings do not count.`

// doctor looks and notes. Its methods are safe for concurrent use.
type doctor struct {
	pool      *pgxpool.Pool // of the central database
	app       *cli.App
	server    string
	tenant    string
	databases int
	all       bool          // print also in full what is well
	openFor   time.Duration // from when on a transaction in the central database is open for too long

	centre tenantdb.Centre // whose the databases are to be; nil: nobody looks

	mu       sync.Mutex
	findings []Finding // guarded by mu
}

// Command is the verb doctor.
func Command(app *cli.App) *cobra.Command {
	d := &doctor{app: app}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether everything is fit for work; say what to do if not",
		Long:  doctorLong,
		Args:  cli.Args(),
		RunE:  cli.Brief(func(ctx context.Context, _ []string) error { return d.run(ctx) }),
	}
	cmd.Flags().StringVar(&d.server, "server", "", "only this server and databases on it")
	cmd.Flags().StringVar(&d.tenant, "tenant", "", "only this tenant's database (slug, UUID or org_id)")
	cli.IntVar(cmd.Flags(), &d.databases, "databases", 20, "how many databases to connect to at most (0: none)")
	cmd.Flags().BoolVar(&d.all, "all", false, "say in full also what is well")
	cli.DurationIn(cmd.Flags(), &d.openFor, "open-for", 10*time.Minute, 0, 0, "how long a transaction may be open in the central database before it is warned of (0: any is)")
	return cmd
}

// on notes what was found of one thing.
func (d *doctor) on(what string) func(state, check, next, says string, args ...any) {
	return func(state, check, next, says string, args ...any) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.findings = append(d.findings, Finding{On: what, Check: check, State: state, Says: fmt.Sprintf(says, args...), Next: next})
	}
}

func (d *doctor) run(ctx context.Context) error {
	if d.databases < 0 || d.server != "" && d.tenant != "" {
		return cli.Usagef("--databases is 0 or more, and --server goes without --tenant")
	}
	if err := d.look(ctx); err != nil {
		return err
	}
	failed := 0
	for _, f := range d.findings {
		if f.State == StateFail {
			failed++
		}
	}
	err := d.print()
	if err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s failed: what to do stands beside each", failed, jobs.Count(len(d.findings), "check"))
	}
	return nil
}

func (d *doctor) print() error {
	if d.app.Output == "table" {
		return findings(d.app, d.findings, d.all)
	}
	return cli.List(d.app, d.findings, "", findingColumns)
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
	d.pool = pool
	ring, err := d.app.Keys()
	if err != nil {
		d.on("keys")(StateFail, "ring", "set HEADGATE_KEY or HEADGATE_KEY_FILE", "%v", err)
	}
	central, err := d.app.On(pool, ring)
	if err != nil {
		return err
	}
	if c, err := centre.Look(ctx, pool); err != nil {
		d.on("central")(StateFail, "mark", "see that its login may read the tables of schema headgate", "%v", err)
	} else if d.centre = c; c.Own() != nil {
		d.on("central")(StateFail, "mark", "`headgate central adopt --all`", "%v", c.Own())
	}
	d.work(ctx, central.Explain)
	d.authorities(ctx, pool)
	if ring != nil {
		d.keys(ctx, catalog.NewKeys(pool, ring))
	}
	servers, chosen, err := d.choose(ctx, central.Catalog)
	if err != nil {
		return err
	}
	if ring == nil {
		return nil
	}
	var group sync.WaitGroup
	for _, server := range servers {
		group.Go(func() { d.lookAtServer(ctx, central.Catalog, server, chosen[server.Name]) })
	}
	group.Wait()
	slices.SortStableFunc(d.findings, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
	return nil
}

// rank keeps the order of looking whatever came first: the centre, then servers
// by name with their databases.
func rank(f Finding) string {
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

// sampleOfKey is how many values of each key are opened.
const sampleOfKey = 20

// keys looks whether the ring opens what its keys have sealed: another key of the same
// id would not.
func (d *doctor) keys(ctx context.Context, keys *catalog.Keys) {
	note := d.on("keys")
	all, err := keys.List(ctx)
	if err != nil {
		note(StateFail, "ring", "see that the central database's login may read the tables of schema headgate", "%v", err)
		return
	}
	used := 0
	for _, k := range all {
		switch {
		case k.Ring == 1 && k.State == catalog.KeyRetired:
			note(StateFail, "key "+k.ID, "put another key in front: `headgate key add`, then `headgate key promote ID`", "the ring has it first, and it is retired: no address can be stored")
		case k.Seals == 0:
			continue
		case !k.Known():
			note(StateFail, "key "+k.ID, "add it behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE), or store the addresses again with `headgate database login --key-lost`",
				"the ring lacks it; %s sealed with it, and no work can be done where they lead", jobs.CountVerb(k.Seals, "address", "is", "are"))
		default:
			d.sample(ctx, keys, k)
		}
		used++
	}
	if used == 0 {
		note(StateOK, "ring", "", "no address is sealed yet")
	}
}

func (d *doctor) sample(ctx context.Context, keys *catalog.Keys, k catalog.KeyUse) {
	note := d.on("keys")
	found, err := keys.Sample(ctx, k.ID, sampleOfKey)
	switch {
	case err != nil:
		note(StateFail, "key "+k.ID, "see that the central database's login may read the tables of schema headgate", "%v", err)
	case found.Failed > 0:
		note(StateFail, "key "+k.ID, "`headgate key verify` names what does not open; give the ring the key that sealed it, or store the addresses again with `headgate database login --key-lost`",
			"addresses that do not open: %d of %d that were tried (%s of %s: %s)", found.Failed, found.Values, found.Bad[0].Column, found.Bad[0].Name, found.Bad[0].Error)
	default:
		note(StateOK, "key "+k.ID, "", "it seals %s; %d of them were tried, and the ring opens all of these", jobs.Count(k.Seals, "address"), found.Opened)
	}
}

// choose says which databases to connect to, by their servers' names.
func (d *doctor) choose(ctx context.Context, c *catalog.Catalog) (servers []catalog.Server, chosen map[string][]catalog.Database, err error) {
	all, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return c.Databases(ctx, page) })
	if err != nil {
		return nil, nil, err
	}
	if servers, err = cli.All(func(page jobs.Page) ([]catalog.Server, string, error) { return c.Servers(ctx, page) }); err != nil {
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
		found, err := cli.FindServer(ctx, c, d.server)
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
		d.on("sample")(StateOK, "databases", "--databases N looks at more", "connected to: %d of %s", n, jobs.Count(len(all), "database"))
	}
	return servers, chosen, nil
}

// patience bounds what is asked of one database.
const patience = 10 * time.Second
