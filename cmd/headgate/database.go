package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func (p *program) databaseCommand() *cobra.Command {
	return group("database", "Databases where the rows of one or many tenants live", p.databaseAdd(), p.databaseList(), p.databaseLogin())
}

var databaseColumns = []column[catalog.Database]{
	{"name", func(d catalog.Database) any { return d.Name }},
	{"kind", func(d catalog.Database) any { return d.Kind }},
	{"server", func(d catalog.Database) any { return d.Server }},
	{"dbname", func(d catalog.Database) any { return d.DBName }},
	{"tenants", func(d catalog.Database) any { return d.Tenants }},
	{"created_at", func(d catalog.Database) any { return d.CreatedAt }},
}

// logins are where the addresses of a database's two logins come from.
type logins struct {
	jobFile, ownerFile             string
	jobDirectFile, ownerDirectFile string
	rootCerts                      string
}

func (l *logins) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.jobFile, "job-url-file", "", "the file with the job login's address, - for standard input (else HEADGATE_JOB_URL, HEADGATE_JOB_URL_FILE)")
	cmd.Flags().StringVar(&l.ownerFile, "owner-url-file", "", "the file with the owner login's address, - for standard input (else HEADGATE_OWNER_URL, HEADGATE_OWNER_URL_FILE)")
	cmd.Flags().StringVar(&l.jobDirectFile, "job-direct-url-file", "", "the file with the job login's address past the server's pooler (else HEADGATE_JOB_DIRECT_URL, HEADGATE_JOB_DIRECT_URL_FILE)")
	cmd.Flags().StringVar(&l.ownerDirectFile, "owner-direct-url-file", "", "the file with the owner login's address past the server's pooler (else HEADGATE_OWNER_DIRECT_URL, HEADGATE_OWNER_DIRECT_URL_FILE)")
	rootCertsFlag(cmd, &l.rootCerts)
}

// directs reads the addresses past the pooler that are given.
func (p *program) directs(ctx context.Context, l logins) (map[jobs.Login]address.Address, error) {
	given := map[jobs.Login]address.Address{}
	for _, d := range []struct {
		login          jobs.Login
		flag, file, of string
	}{
		{jobs.LoginJob, "--job-direct-url-file", l.jobDirectFile, "HEADGATE_JOB_DIRECT_URL"},
		{jobs.LoginOwner, "--owner-direct-url-file", l.ownerDirectFile, "HEADGATE_OWNER_DIRECT_URL"},
	} {
		if d.file == "" && !p.hasSecret(d.of) {
			continue
		}
		a, err := p.addressFrom(ctx, d.flag, d.file, d.of)
		if err != nil {
			return nil, err
		}
		given[d.login] = a
	}
	return given, nil
}

func (l *logins) check() error {
	fromStdin := 0
	for _, file := range []string{l.jobFile, l.ownerFile, l.jobDirectFile, l.ownerDirectFile} {
		if file == "-" {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		return usagef("--job-url-file and --owner-url-file cannot both read standard input, nor can their direct forms")
	}
	return nil
}

func (p *program) jobAddress(ctx context.Context, l logins) (address.Address, error) {
	return p.addressFrom(ctx, "--job-url-file", l.jobFile, "HEADGATE_JOB_URL")
}

func (p *program) ownerAddress(ctx context.Context, l logins) (address.Address, error) {
	return p.addressFrom(ctx, "--owner-url-file", l.ownerFile, "HEADGATE_OWNER_URL")
}

const databaseAddLong = `Install Headgate's schema in a database and enter it in the catalog.

The database needs two logins. The owner login owns its tables; Headgate installs
with it, and runs ANALYZE and VACUUM. The job login does all other work; it owns
nothing and is a member of headgate_job. Their addresses come from
HEADGATE_JOB_URL and HEADGATE_OWNER_URL, from the files that
HEADGATE_JOB_URL_FILE and HEADGATE_OWNER_URL_FILE name, or from flags; they are
sealed with HEADGATE_KEY and never shown again.

On a server behind a pooler in transaction mode each login may have a direct
address as well, past the pooler, for what needs a session: HEADGATE_JOB_DIRECT_URL,
HEADGATE_OWNER_DIRECT_URL, their _FILE forms, or flags.

Running the command again after a failure is safe.`

func (p *program) databaseAdd() *cobra.Command {
	var add adding
	cmd := &cobra.Command{
		Use:   "add NAME --server SERVER --kind shared|dedicated",
		Short: "Install Headgate in a database and enter it in the catalog",
		Long:  databaseAddLong,
		Args:  names("NAME"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) (err error) {
		if err := required(cmd, "server", "kind"); err != nil {
			return err
		}
		add.params.Name = args[0]
		return p.addDatabase(ctx, &add)
	})
	cmd.Flags().StringVar(&add.params.Server, "server", "", "the name of its server in the catalog")
	cmd.Flags().StringVar(&add.params.Kind, "kind", "", "shared (many tenants) or dedicated (one)")
	cmd.Flags().BoolVar(&add.adopt, "adopt", false, "take over a database that bears the mark of a catalog entry that is gone for good")
	complete(cmd, "kind", []string{catalog.KindShared, catalog.KindDedicated})
	add.logins.flags(cmd)
	return cmd
}

func (p *program) databaseList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the databases and how many tenants live in each",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				databases, err := r.catalog.Databases(ctx)
				if err != nil {
					return err
				}
				return list(p, databases, "no databases yet: headgate database add NAME --server SERVER --kind shared", databaseColumns)
			})
		}),
	}
}

const databaseLoginLong = `Replace the address of one or both logins of a database, after trying it: a new
password, another host of the same server. Workers use it with the next
connection, without a restart. Which of the two is replaced is what is given:
HEADGATE_JOB_URL, HEADGATE_OWNER_URL, their _FILE forms, or the flags.

HEADGATE_JOB_DIRECT_URL and HEADGATE_OWNER_DIRECT_URL, or their flags, replace the
addresses past a pooler in transaction mode. A new password is for both.`

func (p *program) databaseLogin() *cobra.Command {
	var l logins
	cmd := &cobra.Command{
		Use:   "login NAME",
		Short: "Replace the address of a database's job login or owner login",
		Long:  databaseLoginLong,
		Args:  names("NAME"),
		RunE: brief(func(ctx context.Context, args []string) error {
			directs, err := p.directs(ctx, l)
			if err != nil {
				return err
			}
			given, err := p.givenLogins(ctx, l, len(directs) > 0)
			if err != nil {
				return err
			}
			ring, err := p.keys()
			if err != nil {
				return err
			}
			return p.open(ctx, ring, func(r rooms) error { return p.setLogins(ctx, r, args[0], l, given, directs) })
		}),
	}
	l.flags(cmd)
	return cmd
}

// givenLogins reads the one or two addresses that the user gives; none may do.
func (p *program) givenLogins(ctx context.Context, l logins, noneWillDo bool) (map[jobs.Login]address.Address, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	given := map[jobs.Login]address.Address{}
	var err error
	if l.jobFile != "" || p.hasSecret("HEADGATE_JOB_URL") {
		if given[jobs.LoginJob], err = p.jobAddress(ctx, l); err != nil {
			return nil, err
		}
	}
	if l.ownerFile != "" || p.hasSecret("HEADGATE_OWNER_URL") {
		if given[jobs.LoginOwner], err = p.ownerAddress(ctx, l); err != nil {
			return nil, err
		}
	}
	if len(given) == 0 && !noneWillDo {
		return nil, usagef("no address is given: set HEADGATE_JOB_URL or HEADGATE_OWNER_URL, or give --job-url-file or --owner-url-file")
	}
	return given, nil
}

func (p *program) hasSecret(name string) bool { return p.env(name) != "" || p.env(name+"_FILE") != "" }

// setLogins tries the addresses, then stores them all or none.
func (p *program) setLogins(ctx context.Context, r rooms, name string, l logins, given, directs map[jobs.Login]address.Address) error {
	database, err := findDatabase(ctx, r.catalog, name)
	if err != nil {
		return err
	}
	server, err := findServer(ctx, r.catalog, database.Server)
	if err != nil {
		return err
	}
	var changed []string
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
			t := target{server, l.rootCerts}
			if a, ok := given[login]; ok {
				if err := t.try(ctx, login, a, database.ID); err != nil {
					return err
				}
				if err := r.catalog.SetLoginTx(ctx, tx, database.ID, login, a); err != nil {
					return err
				}
				changed = append(changed, login.String()+" login")
			}
			if a, ok := directs[login]; ok {
				if err := t.past().try(ctx, login, a, database.ID); err != nil {
					return err
				}
				if err := r.catalog.SetDirectTx(ctx, tx, database.ID, login, a); err != nil {
					return err
				}
				changed = append(changed, login.String()+" login's direct address")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.say("database %s: the %s is replaced", database.Name, strings.Join(changed, " and the "))
	return one(p, database, databaseColumns)
}

func findDatabase(ctx context.Context, c *catalog.Catalog, name string) (catalog.Database, error) {
	databases, err := c.Databases(ctx)
	if err != nil {
		return catalog.Database{}, err
	}
	var known []string
	for _, d := range databases {
		if d.Name == name || d.ID == name {
			return d, nil
		}
		known = append(known, d.Name)
	}
	return catalog.Database{}, fmt.Errorf("%w %s%s; `headgate database list` shows them",
		jobs.ErrUnknownDatabase, quote(name), didYouMean(nearest(name, known, "")...))
}
