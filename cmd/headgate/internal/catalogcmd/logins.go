package catalogcmd

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// logins are where the addresses of a database's two logins come from.
type logins struct {
	jobFile, ownerFile             string
	jobDirectFile, ownerDirectFile string
	jobReadFile                    string
	noJobRead                      bool
}

func (l *logins) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.jobFile, "job-url-file", "", "the file with the job login's address, - for standard input (else HEADGATE_JOB_URL, HEADGATE_JOB_URL_FILE)")
	cmd.Flags().StringVar(&l.ownerFile, "owner-url-file", "", "the file with the owner login's address, - for standard input (else HEADGATE_OWNER_URL, HEADGATE_OWNER_URL_FILE)")
	cmd.Flags().StringVar(&l.jobDirectFile, "job-direct-url-file", "", "the file with the job login's address past the server's pooler (else HEADGATE_JOB_DIRECT_URL, HEADGATE_JOB_DIRECT_URL_FILE)")
	cmd.Flags().StringVar(&l.ownerDirectFile, "owner-direct-url-file", "", "the file with the owner login's address past the server's pooler (else HEADGATE_OWNER_DIRECT_URL, HEADGATE_OWNER_DIRECT_URL_FILE)")
}

// readFlags are of a database that is in the catalog.
func (l *logins) readFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.jobReadFile, "job-read-url-file", "", "the file with the job login's address at a replica (else HEADGATE_JOB_READ_URL, HEADGATE_JOB_READ_URL_FILE)")
	cmd.Flags().BoolVar(&l.noJobRead, "no-job-read", false, "take the job login's address at a replica out of the catalog")
}

func (l *logins) check() error {
	fromStdin := 0
	for _, file := range []string{l.jobFile, l.ownerFile, l.jobDirectFile, l.ownerDirectFile, l.jobReadFile} {
		if file == "-" {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		return cli.Usagef("--job-url-file and --owner-url-file cannot both read standard input, nor can their direct and read forms")
	}
	return nil
}

func jobAddress(ctx context.Context, app *cli.App, l logins) (address.Address, error) {
	return app.AddressFrom(ctx, "--job-url-file", l.jobFile, "HEADGATE_JOB_URL")
}

func ownerAddress(ctx context.Context, app *cli.App, l logins) (address.Address, error) {
	return app.AddressFrom(ctx, "--owner-url-file", l.ownerFile, "HEADGATE_OWNER_URL")
}

// directs reads the addresses past the pooler that are given.
func directs(ctx context.Context, app *cli.App, l logins) (map[jobs.Login]address.Address, error) {
	given := map[jobs.Login]address.Address{}
	for _, d := range []struct {
		login          jobs.Login
		flag, file, of string
	}{
		{jobs.LoginJob, "--job-direct-url-file", l.jobDirectFile, "HEADGATE_JOB_DIRECT_URL"},
		{jobs.LoginOwner, "--owner-direct-url-file", l.ownerDirectFile, "HEADGATE_OWNER_DIRECT_URL"},
	} {
		if d.file == "" && !app.HasSecret(d.of) {
			continue
		}
		a, err := app.AddressFrom(ctx, d.flag, d.file, d.of)
		if err != nil {
			return nil, err
		}
		given[d.login] = a
	}
	return given, nil
}

// change is what becomes of a database's addresses. read is nil where nothing becomes of the
// read address, and noRead takes that address out.
type change struct {
	given, directs map[jobs.Login]address.Address
	read           *address.Address
	noRead         bool
}

// changeOf reads the addresses that the user gives.
func changeOf(ctx context.Context, app *cli.App, l logins) (c change, err error) {
	if c.noRead = l.noJobRead; c.noRead && (l.jobReadFile != "" || app.HasSecret("HEADGATE_JOB_READ_URL")) {
		return c, cli.Usagef("--no-job-read takes the read address out: leave it out, or --job-read-url-file and HEADGATE_JOB_READ_URL")
	}
	if c.directs, err = directs(ctx, app, l); err != nil {
		return c, err
	}
	if l.jobReadFile != "" || app.HasSecret("HEADGATE_JOB_READ_URL") {
		a, err := app.AddressFrom(ctx, "--job-read-url-file", l.jobReadFile, "HEADGATE_JOB_READ_URL")
		if err != nil {
			return c, err
		}
		c.read = &a
	}
	c.given, err = givenLogins(ctx, app, l, len(c.directs) > 0 || c.read != nil || c.noRead)
	return c, err
}

const databaseLoginLong = `Replace the address of one or both logins of a database, after trying it: a new
password, another host of the same server. Workers use it with the next
connection, without a restart. Which of the two is replaced is what is given:
HEADGATE_JOB_URL, HEADGATE_OWNER_URL, their _FILE forms, or the flags.

HEADGATE_JOB_DIRECT_URL and HEADGATE_OWNER_DIRECT_URL, or their flags, replace the
addresses past a pooler in transaction mode. A new password is for all.

HEADGATE_JOB_READ_URL, or its flag, gives the job login an address at a replica of
the server, on a host of the server. Kinds that declare it read there, as long as
the replica is near enough. --no-job-read takes the address out again.`

func databaseLogin(app *cli.App) *cobra.Command {
	var l logins
	var keyLost bool
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "login NAME",
		Short: "Replace the address of a database's job login or owner login",
		Long:  databaseLoginLong,
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			change, err := changeOf(ctx, app, l)
			if err != nil {
				return err
			}
			ring, err := app.Keys()
			if err != nil {
				return err
			}
			return app.Open(ctx, ring, func(central cli.Central) error { return setLogins(ctx, app, central, args[0], change, keyLost, dry) })
		}),
	}
	l.flags(cmd)
	l.readFlags(cmd)
	cmd.Flags().BoolVar(&keyLost, "key-lost", false, "also with a key ring that opens neither address there is, because every copy of their key is lost")
	dry.Flag(cmd)
	return cmd
}

// givenLogins reads the one or two addresses that the user gives; none may do.
func givenLogins(ctx context.Context, app *cli.App, l logins, noneWillDo bool) (map[jobs.Login]address.Address, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	given := map[jobs.Login]address.Address{}
	var err error
	if l.jobFile != "" || app.HasSecret("HEADGATE_JOB_URL") {
		if given[jobs.LoginJob], err = jobAddress(ctx, app, l); err != nil {
			return nil, err
		}
	}
	if l.ownerFile != "" || app.HasSecret("HEADGATE_OWNER_URL") {
		if given[jobs.LoginOwner], err = ownerAddress(ctx, app, l); err != nil {
			return nil, err
		}
	}
	if len(given) == 0 && !noneWillDo {
		return nil, cli.Usagef("no address is given: set HEADGATE_JOB_URL or HEADGATE_OWNER_URL, or give --job-url-file or --owner-url-file")
	}
	return given, nil
}

// opensOne refuses a key ring that opens neither address of a database: what it seals no worker
// with the right ring opens.
func opensOne(ctx context.Context, central cli.Central, database catalog.Database) error {
	for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
		place, err := central.Catalog.Hosting().Place(ctx, database.ID, login)
		if err != nil {
			return err
		}
		if _, err = place.Open(ctx); !errors.Is(err, address.ErrUndecryptable) {
			return err
		}
	}
	return cli.Usagef("the key ring opens neither address of %s, so that workers with the ring that does would not open a new one: give that ring (`headgate key list` names its keys), or pass --key-lost where every copy of the key is lost; nothing was changed", database.Name)
}

// setLogins tries the addresses, then stores them all or none. Nothing is locked while a server
// is waited for.
func setLogins(ctx context.Context, app *cli.App, central cli.Central, name string, c change, keyLost bool, dry cli.DryRun) error {
	database, err := cli.FindDatabase(ctx, central.Catalog, name)
	if err != nil {
		return err
	}
	server, err := cli.FindServer(ctx, central.Catalog, database.Server)
	if err != nil {
		return err
	}
	if !keyLost {
		if err := opensOne(ctx, central, database); err != nil {
			return err
		}
	}
	if err := c.try(ctx, target{server, catalog.NewAuthorities(central.Pool)}, database); err != nil {
		return err
	}
	var changed []string
	err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
		changed, err = c.store(ctx, tx, central.Catalog.Logins(), database)
		return err
	})
	if err != nil {
		return err
	}
	defer dry.Say(app, jobs.Count(database.Tenants, "tenant"))
	if len(changed) > 0 {
		app.Say("database %s: the %s is replaced", database.Name, strings.Join(changed, " and the "))
	}
	if c.noRead {
		app.Say("database %s: it has no read address; all its jobs use the job login's own", database.Name)
	}
	if c.read != nil || c.noRead {
		database.ReadAddress = c.read != nil
	}
	return cli.One(app, database, databaseColumns)
}

// try logs in with each address, and changes nothing.
func (c change) try(ctx context.Context, t target, database catalog.Database) error {
	for _, login := range bothLogins {
		if a, ok := c.given[login]; ok {
			if err := t.try(ctx, login, a, database); err != nil {
				return err
			}
			if a.Database != database.DBName {
				return cli.Usagef("the %s's address leads to database %s, and database %s is %s on server %s: `headgate database reattach %s --dbname %s` if it was renamed",
					login, cli.Quote(a.Database), database.Name, cli.Quote(database.DBName), t.server.Name, database.Name, a.Database)
			}
		}
		if a, ok := c.directs[login]; ok {
			if err := t.past().try(ctx, login, a, database); err != nil {
				return err
			}
		}
	}
	if c.read == nil {
		return nil
	}
	return t.tryRead(ctx, *c.read, database)
}

var bothLogins = []jobs.Login{jobs.LoginJob, jobs.LoginOwner}

// store writes the addresses, and returns which were replaced.
func (c change) store(ctx context.Context, tx pgx.Tx, l catalog.Logins, database catalog.Database) (replaced []string, err error) {
	for _, login := range bothLogins {
		if a, ok := c.given[login]; ok {
			if err := l.SetTx(ctx, tx, database.Name, login, a); err != nil {
				return nil, err
			}
			replaced = append(replaced, login.String()+" login")
		}
		if a, ok := c.directs[login]; ok {
			if err := l.SetDirectTx(ctx, tx, database.Name, login, a); err != nil {
				return nil, err
			}
			replaced = append(replaced, login.String()+" login's direct address")
		}
	}
	switch {
	case c.noRead:
		return replaced, l.RemoveReadTx(ctx, tx, database.ID)
	case c.read != nil:
		return append(replaced, "job login's read address"), l.SetReadTx(ctx, tx, database.ID, *c.read)
	}
	return replaced, nil
}
