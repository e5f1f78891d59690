// Package auditcmd has the verb that says who changed what.
package auditcmd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/access"
)

var columns = []cli.Column[access.Entry]{
	{Name: "at", Of: func(e access.Entry) any { return e.At }},
	{Name: "who", Of: func(e access.Entry) any { return who(e) }},
	{Name: "action", Of: func(e access.Entry) any { return e.Action + " " + e.Object }},
	{Name: "name", Of: func(e access.Entry) any { return named(e) }},
	{Name: "changes", Of: func(e access.Entry) any { return changes(e) }},
	{Name: "reason", Of: func(e access.Entry) any { return e.Reason }},
	{Name: "operation", Of: func(e access.Entry) any { return e.Operation }, Aside: true},
}

// who is the actor, and the login where that is another: a program says who acts, and Postgres
// knows the login.
func who(e access.Entry) string {
	switch e.Actor {
	case "", e.Login:
		return e.Login
	}
	return e.Actor + " (login " + e.Login + ")"
}

// named is the row as people know it, behind whose it is.
func named(e access.Entry) string {
	if scope, _, ok := strings.Cut(e.Key, "/"); ok && e.Object == "pause" {
		return scope + " " + subject(e)
	}
	return subject(e)
}

func subject(e access.Entry) string {
	switch {
	case e.Tenant == "" || e.Tenant == e.Name || e.Object == "tenant":
		return e.Name
	case e.Name == e.TenantID: // of a tenant one row only
		return e.Tenant
	}
	return e.Tenant + " " + e.Name
}

// mostShown bounds the fields that a table's cell shows; JSON has all.
const mostShown = 6

func changes(e access.Entry) string {
	var said []string
	told := telling(e)
	for i, c := range told {
		if i == mostShown {
			said = append(said, fmt.Sprintf("and %d more", len(told)-i))
			break
		}
		switch before, after := string(c.Before), string(c.After); {
		case e.Action != "change" && after != "null":
			said = append(said, c.Field+"="+after)
		case e.Action != "change":
			said = append(said, c.Field+"="+before)
		case before == "null":
			said = append(said, c.Field+": "+after)
		case after == "null":
			said = append(said, c.Field+": "+before+" taken out")
		default:
			said = append(said, c.Field+": "+before+" → "+after)
		}
	}
	return strings.Join(said, ", ")
}

// telling are the fields that tell people something. Of a row that was added these are not
// its UUIDs, which no person knows it by, and not what is empty. What is paused stands in the
// heading.
func telling(e access.Entry) []access.Change {
	if e.Action != "add" {
		return e.Changes
	}
	return slices.DeleteFunc(slices.Clone(e.Changes), func(c access.Change) bool {
		text := string(c.After)
		return text == `""` || e.Object == "pause" && (c.Field == "scope" || c.Field == "target") || strings.HasSuffix("_"+c.Field, "_id") && strings.HasPrefix(text, `"`)
	})
}

// show prints an entry as a heading, and below it what changed.
func show(app *cli.App, e access.Entry) error {
	heading := fmt.Sprintf("%s %s %s %s", app.Cell(who(e)), e.Action, e.Object, app.Cell(named(e)))
	if e.Reason != "" {
		heading += " (" + e.Reason + ")"
	}
	if err := app.Paragraph(app.Cell(e.At)+"  ", heading); err != nil {
		return err
	}
	if e.Action == "remove" {
		return nil
	}
	return app.Paragraph("    ", changes(e))
}

const listLong = `List who changed what of what people decide: tenants and all that belongs to
them, databases, servers, plans, limits, pauses, grants, schedules. Every write
is recorded, whichever program makes it, psql too. Entries are kept for 13
months. The latest come first.

WHO is the person as the program says it, and behind that the login of the
database, which Postgres knows, where it has another name. Changes of one transaction have one operation.`

// Audit is the verbs on the record of changes.
func Audit(app *cli.App) *cobra.Command {
	return cli.Group("audit", "Who changed what, when and why", list(app))
}

func list(app *cli.App) *cobra.Command {
	var filter access.AuditFilter
	var tenant, since, until string
	cmd := &cobra.Command{
		Use: "list", Short: "List changes, the latest first", Long: listLong, Args: cli.Args(),
		Example: "  headgate audit list --tenant acme --since 24h\n  headgate audit list --object server -o json\n  headgate audit list --operation 0f8c…",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, _ []string) (err error) {
		if filter.Since, err = moment("--since", since, time.Now()); err != nil {
			return err
		}
		if filter.Until, err = moment("--until", until, time.Now()); err != nil {
			return err
		}
		if filter.Object != "" {
			if err := cli.OneOf("--object", filter.Object, access.Objects); err != nil {
				return err
			}
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			if tenant != "" {
				found, err := central.Catalog.Tenant(ctx, tenant)
				if err != nil {
					return cli.NearOwner(ctx, central, tenant, "", err)
				}
				filter.TenantID = found.ID
			}
			entries, next, err := access.Audit(ctx, central.Pool, filter)
			if err != nil {
				return err
			}
			defer cli.More(app, next)
			if app.Output != "table" || len(entries) == 0 {
				return cli.List(app, entries, none(cmd.Flags()), columns)
			}
			for _, e := range entries {
				if err := show(app, e); err != nil {
					return err
				}
			}
			return nil
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&tenant, "tenant", "", "only what belongs to this tenant, or is it")
	flags.StringVar(&filter.Object, "object", "", "only this kind of thing: "+strings.Join(access.Objects, ", "))
	flags.StringVar(&filter.Operation, "operation", "", "only what was changed together with this")
	flags.StringVar(&filter.Actor, "by", "", "only what this person, or login, has changed")
	cli.Complete(cmd, "object", access.Objects)
	flags.StringVar(&since, "since", "", "only from then on: RFC 3339, or so long ago (24h)")
	flags.StringVar(&until, "until", "", "only before then")
	cli.IntIn(flags, &filter.Limit, "limit", 50, 1, 10_000, "at most so many, 1 to 10000")
	flags.StringVar(&filter.After, "after", "", "go on behind this one, as the list before said")
	return cmd
}

// none says why a list is empty, and what to do: what was asked for that nothing is like.
func none(flags *pflag.FlagSet) string {
	var given []string
	for _, name := range []string{"tenant", "object", "operation", "by", "since", "until", "after"} {
		if flag := flags.Lookup(name); flag.Changed {
			given = append(given, "--"+name+" "+cli.Quote(flag.Value.String()))
		}
	}
	if len(given) == 0 {
		return "nobody has changed anything in the last 13 months: `headgate server add` is where most begin"
	}
	return "no change is like that (" + strings.Join(given, ", ") + "): leave one of these out, or have all of the last 13 months by `headgate audit list`"
}

// moment reads a time, or how long ago it is.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, cli.Usagef("%s: %s is neither a duration that is past (90m, 24h) nor a time in RFC 3339 form (2026-12-01T03:00:00Z)", flag, cli.Quote(text))
	}
	return at, nil
}
