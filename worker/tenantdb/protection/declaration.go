package protection

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// The modes of a declaration.
const (
	modePolicy   = "policy"   // a table whose policies bind its own column
	modeThrough  = "through"  // a table whose policies ask its parent
	modeView     = "view"     // a relation that jobs reach through a view of ours only
	modePublic   = "public"   // a relation that belongs to no tenant: jobs may read it
	modeCopy     = "copy"     // a view of the application's that jobs reach as our invoker copy
	modeFunction = "function" // a function that is trusted
)

// AppSchema is the schema of Headgate's views of an application's tables.
const AppSchema = "headgate_app"

// declaration is one row of headgate.protected.
type declaration struct {
	Object  string
	Mode    string
	Column  string // quoted as SQL needs it
	Through string
	ShownBy string
}

// declarations are by object.
type declarations map[string]declaration

const selectDeclarations = `
SELECT object, mode, coalesce(org_column, ''), coalesce(through, ''), coalesce(shown_by, '') FROM headgate.protected`

func readDeclarations(ctx context.Context, tx pgx.Tx) (declarations, error) {
	rows, err := collect[declaration](ctx, tx, "what is declared", selectDeclarations)
	all := declarations{}
	for _, d := range rows {
		all[d.Object] = d
	}
	return all, err
}

// is says whether an object is declared so.
func (d declarations) is(object, mode string) bool { return d[object].Mode == mode }

// shown returns the declaration of what a view of ours shows.
func (d declarations) shown(view string) (declaration, bool) {
	for _, one := range d {
		if one.ShownBy == view {
			return one, true
		}
	}
	return declaration{}, false
}
