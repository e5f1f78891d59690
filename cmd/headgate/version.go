package main

import (
	"cmp"
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/migrations"
)

// version is set by -ldflags "-X main.version=…" for releases.
var version string

// versionView is the shape of `version -o json`.
type versionView struct {
	Version       string `json:"version"`
	Go            string `json:"go"`
	River         string `json:"river"`
	Pgx           string `json:"pgx"`
	CentralSchema int    `json:"central_schema"` // that this program brings
	TenantSchema  int    `json:"tenant_schema"`
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of what it is built on",
		Args:  names(),
		RunE: brief(func(context.Context, []string) error {
			return one(p, thisVersion(), []column[versionView]{
				{"version", func(v versionView) any { return v.Version }},
				{"go", func(v versionView) any { return v.Go }},
				{"river", func(v versionView) any { return v.River }},
				{"pgx", func(v versionView) any { return v.Pgx }},
				{"central_schema", func(v versionView) any { return v.CentralSchema }},
				{"tenant_schema", func(v versionView) any { return v.TenantSchema }},
			})
		}),
	}
}

func thisVersion() versionView {
	v := versionView{Version: version, Go: runtime.Version()}
	v.CentralSchema, v.TenantSchema = migrations.Versions()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Version = cmp.Or(v.Version, "unknown")
		return v
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/riverqueue/river":
			v.River = dep.Version
		case "github.com/jackc/pgx/v5":
			v.Pgx = dep.Version
		}
	}
	v.Version = cmp.Or(v.Version, fromBuild(info))
	return v
}

// fromBuild is the module's version where there is one, else the commit.
func fromBuild(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return "devel"
}
