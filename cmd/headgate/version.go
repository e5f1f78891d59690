package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// version is set by -ldflags "-X main.version=…" for releases.
var version string

func thisVersion() cli.Version { return cli.VersionOf(version) }

func versionCommand(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of what it is built on",
		Args:  cli.Args(),
		RunE: cli.Brief(func(context.Context, []string) error {
			return cli.One(app, thisVersion(), []cli.Column[cli.Version]{
				{Name: "version", Of: func(v cli.Version) any { return v.Version }},
				{Name: "go", Of: func(v cli.Version) any { return v.Go }},
				{Name: "river", Of: func(v cli.Version) any { return v.River }},
				{Name: "pgx", Of: func(v cli.Version) any { return v.Pgx }},
				{Name: "central_schema", Of: func(v cli.Version) any { return v.CentralSchema }},
				{Name: "tenant_schema", Of: func(v cli.Version) any { return v.TenantSchema }},
			})
		}),
	}
}
