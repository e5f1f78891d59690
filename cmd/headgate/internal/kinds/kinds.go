// Package kinds has the built-in kinds: what a worker registers, and how the command
// line's JSON becomes the arguments of a kind.
//
//	kinds.go    the kinds, and what is known of others
//	sync.go     what headgate.sync does to the catalog
//	decode.go   arguments are read strictly: what a kind has no place for is refused
//	request.go  the flags by which a job or a schedule is asked for
package kinds

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/jobs/tenancy"
	"github.com/headgate/headgate/jobs/tenantsync"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/erasure"
)

// builtin is a kind that needs no code of the user's.
type builtin struct {
	kind   string
	scope  jobs.Scope
	decode func(raw []byte) (jobs.Args, error) // strictly
}

var builtins = []builtin{
	kindOf[report.Args](),
	kindOf[sqlscript.Args](),
	kindOf[maintenance.Purge](),
	kindOf[maintenance.Analyze](),
	kindOf[maintenance.Vacuum](),
	kindOf[tenancy.Organisations](),
	kindOf[tenantsync.Args](),
	kindOf[wire.Erase](),
}

// Centre is what the built-in kinds use of the central database.
type Centre struct {
	Catalog  *catalog.Catalog     // says which tenants are placed in a database
	Importer *importer.Importer   // writes syncs
	Client   *orchestrator.Client // says what may be erased
}

// Register gives a worker the built-in kinds. Reports go into the bucket.
func Register(w *worker.Worker, reports *blob.Bucket, centre Centre) {
	worker.ReadOnly(w, report.New(reports))
	worker.InTx(w, sqlscript.Run)
	worker.InTx(w, maintenance.RunPurge)
	worker.OnConn(w, maintenance.RunAnalyze)
	worker.OnConn(w, maintenance.RunVacuum)
	worker.InTx(w, tenancy.New(Organisations(centre.Catalog)))
	worker.ReadOnly(w, tenantsync.New(syncs(centre.Importer)))
	worker.OnConn(w, erasure.New(erasure.Config{Centre: centre.Client.Erasures(), RemoveFile: removeFrom(reports)}))
}

// removeFrom deletes files of reports from a bucket, nil if there is none.
func removeFrom(reports *blob.Bucket) func(ctx context.Context, key string) (bool, error) {
	if reports == nil {
		return nil
	}
	return func(ctx context.Context, key string) (bool, error) {
		err := reports.Delete(ctx, key)
		if gcerrors.Code(err) == gcerrors.NotFound {
			return false, nil
		}
		return err == nil, err
	}
}

// Organisations lists a database's tenants as its rows of them are to be.
func Organisations(tenants *catalog.Catalog) tenancy.Source {
	return func(ctx context.Context, database string, after int64, limit int) ([]tenancy.Organisation, error) {
		placed, err := tenants.TenantsIn(ctx, database, after, limit)
		list := make([]tenancy.Organisation, len(placed))
		for i, t := range placed {
			kept := t.Status == catalog.Archived || t.Status == catalog.Removed
			list[i] = tenancy.Organisation{OrgID: t.OrgID, OrgKey: t.OrgKey, Slug: t.Slug, Name: t.Name, Kept: kept}
		}
		return list, err
	}
}

func kindOf[A jobs.Args]() builtin {
	var zero A
	return builtin{kind: zero.Kind(), scope: jobs.KindOptsOf(zero).Scope, decode: func(raw []byte) (jobs.Args, error) {
		var args A
		if err := decodeArgs(raw, &args); err != nil {
			return nil, err
		}
		if err := jobs.CheckArgs(args); err != nil {
			return nil, &cli.UsageError{Err: err}
		}
		return args, nil
	}}
}

// fitsScope refuses a built-in kind that is not about what is named.
func fitsScope(kind string, scope jobs.Scope) error {
	for _, b := range builtins {
		switch {
		case b.kind != kind || b.scope == scope:
		case b.scope == jobs.ScopeDatabase:
			return cli.Usagef("kind %s works on a whole database: give --database instead of --tenant", kind)
		default:
			return cli.Usagef("kind %s works for one tenant: give --tenant instead of --database", kind)
		}
	}
	return nil
}

// Names are those of the built-in kinds.
func Names() []string {
	all := make([]string, len(builtins))
	for i, b := range builtins {
		all[i] = b.kind
	}
	return all
}

// ownPrefix is kept for built-in kinds: a name that begins so and is none is a
// slip.
const ownPrefix = "headgate."

// Args turns the command line's JSON into the arguments of a kind. It says
// so if no built-in serves the kind: then a worker of the user's has to.
func Args(app *cli.App, kind string, raw []byte, scope jobs.Scope) (jobs.Args, error) {
	args, err := stored(kind, raw, scope)
	if err == nil {
		Note(app, kind)
	}
	return args, err
}

// stored is Args without a word.
func stored(kind string, raw []byte, scope jobs.Scope) (jobs.Args, error) {
	for _, b := range builtins {
		if b.kind == kind {
			return b.decode(raw)
		}
	}
	if strings.HasPrefix(kind, ownPrefix) {
		return nil, cli.Usagef("kind %s is unknown%s; the built-in kinds are %s", cli.Quote(kind), near(kind), strings.Join(Names(), ", "))
	}
	if err := checkObject(raw); err != nil {
		return nil, err
	}
	return rawArgs{kind: kind, raw: raw, scope: scope}, nil
}

func near(kind string) string { return cli.DidYouMean(cli.Nearest(kind, Names(), "")...) }

// Note says that no built-in serves the kind, if that is so.
func Note(app *cli.App, kind string) {
	if !slices.Contains(Names(), kind) && app.Once(kind) { // once, however many schedules of a file have it
		app.Say("note: %s is no built-in kind%s; its jobs wait until a worker of yours serves it", cli.Quote(kind), near(kind))
	}
}

// NoteUnserved is Note, but not if a living worker serves the kind now.
func NoteUnserved(ctx context.Context, app *cli.App, central cli.Central, kind string) {
	if slices.Contains(Names(), kind) {
		return
	}
	if served, err := central.Explain.Served(ctx, kind); err != nil || !served { // a login that may not look is told too
		Note(app, kind)
	}
}

// Check is what the client asks of stored arguments, of the kinds that this program
// has.
func Check(kind string, args []byte) error {
	for _, b := range builtins {
		if b.kind == kind {
			_, err := b.decode(args)
			return err
		}
	}
	if strings.HasPrefix(kind, ownPrefix) {
		return cli.Usagef("kind %s is unknown to this version; the built-in kinds are %s", cli.Quote(kind), strings.Join(Names(), ", "))
	}
	return nil
}

// rawArgs are the arguments of a kind that this program does not know.
type rawArgs struct {
	kind  string
	raw   json.RawMessage
	scope jobs.Scope
}

func (a rawArgs) Kind() string                 { return a.kind }
func (a rawArgs) MarshalJSON() ([]byte, error) { return a.raw.MarshalJSON() }
func (a rawArgs) KindOpts() jobs.KindOpts      { return jobs.KindOpts{Scope: a.scope} }
