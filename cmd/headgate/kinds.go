package main

import (
	"encoding/json"
	"strings"

	"gocloud.dev/blob"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/worker"
)

// builtin is a kind that needs no code of the user's.
type builtin struct {
	kind   string
	decode func(raw []byte) (jobs.Args, error) // strictly
}

var builtins = []builtin{
	kindOf[report.Args](),
	kindOf[sqlscript.Args](),
	kindOf[maintenance.Purge](),
	kindOf[maintenance.Analyze](),
	kindOf[maintenance.Vacuum](),
}

// register gives a worker the built-in kinds. Reports go into the bucket.
func register(w *worker.Worker, reports *blob.Bucket) {
	worker.ReadOnly(w, report.New(reports))
	worker.InTx(w, sqlscript.Run)
	worker.InTx(w, maintenance.RunPurge)
	worker.OnConn(w, maintenance.RunAnalyze)
	worker.OnConn(w, maintenance.RunVacuum)
}

func kindOf[A jobs.Args]() builtin {
	var zero A
	return builtin{kind: zero.Kind(), decode: func(raw []byte) (jobs.Args, error) {
		var args A
		err := decodeArgs(raw, &args)
		return args, err
	}}
}

func builtinKinds() []string {
	all := make([]string, len(builtins))
	for i, b := range builtins {
		all[i] = b.kind
	}
	return all
}

// ownPrefix is kept for built-in kinds: a name that begins so and is none is a
// slip.
const ownPrefix = "headgate."

// argsFor turns the command line's JSON into the arguments of a kind. It says
// so if no built-in serves the kind: then a worker of the user's has to.
func (p *program) argsFor(kind string, raw []byte, scope jobs.Scope) (jobs.Args, error) {
	for _, b := range builtins {
		if b.kind == kind {
			return b.decode(raw)
		}
	}
	near := didYouMean(nearest(kind, builtinKinds(), "")...)
	if strings.HasPrefix(kind, ownPrefix) {
		return nil, usagef("kind %s is unknown%s; the built-in kinds are %s", quote(kind), near, strings.Join(builtinKinds(), ", "))
	}
	if err := checkObject(raw); err != nil {
		return nil, err
	}
	p.say("note: %s is no built-in kind%s; its jobs wait until a worker of yours serves it", quote(kind), near)
	return rawArgs{kind: kind, raw: raw, scope: scope}, nil
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
