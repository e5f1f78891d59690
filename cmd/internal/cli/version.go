package cli

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/headgate/headgate/migrations"
)

// Version is what a program is and what it is built on: the shape of
// `version -o json`.
type Version struct {
	Version       string `json:"version"`
	Go            string `json:"go"`
	River         string `json:"river"`
	Pgx           string `json:"pgx"`
	CentralSchema int    `json:"central_schema"` // that this program brings
	TenantSchema  int    `json:"tenant_schema"`
}

// VersionOf reads what the build has noted. release is the version that a release is
// built with, "" for others.
func VersionOf(release string) Version {
	v := Version{Version: release, Go: runtime.Version()}
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
