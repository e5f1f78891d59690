package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/cmd/internal/pages"
)

// pageFlags say whether and how the pages are served.
type pageFlags struct {
	listen string
	names  []string
	write  bool
	detail string
}

func (p *pageFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.listen, "listen", "", "serve River's UI to browsers of this machine, at a port of 127.0.0.1 or HOST:PORT of loopback (not unless given)")
	flags.StringArrayVar(&p.names, "listen-name", nil, "a further host's name by which the pages may be asked for; may be repeated")
	flags.BoolVar(&p.write, "ui-write", false, "let the pages cancel, retry, pause and resume, for whoever opens the one-time address that is printed")
	flags.StringVar(&p.detail, "ui-detail", pages.DetailRedacted, "what the pages show of a job: redacted (the names of its arguments and the classes of its errors) or full (the values and texts too)")
	cli.Complete(cmd, "ui-detail", pages.Details)
}

// check refuses what cannot be served, before anything is opened.
func (p *pageFlags) check() error {
	if err := cli.OneOf("--ui-detail", p.detail, pages.Details); err != nil {
		return err
	}
	if p.listen == "" {
		if p.write || len(p.names) > 0 {
			return cli.Usagef("--ui-write and --listen-name are about the pages, which --listen ADDRESS serves: give that too")
		}
		return nil
	}
	_, err := pages.Address(p.listen)
	return err
}

// openPages serves the pages, if they are wanted, until shut is called.
func openPages(ctx context.Context, app *cli.App, central cli.Central, p pageFlags) (shut func(), err error) {
	if p.listen == "" {
		return func() {}, nil
	}
	database, err := app.Config()
	if err != nil {
		return nil, err
	}
	server, err := pages.Listen(ctx, p.listen, pages.Config{
		Names: p.names, Write: p.write, Detail: p.detail, Central: central, Database: database, Pooled: app.Pooled(), Actor: app.Actor(), Log: app.Log,
		Announce: func(address string) { app.Say("headgate: the pages are at %s", address) },
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = server.Close() }, nil // connections that were cut off are no error of ours
}
