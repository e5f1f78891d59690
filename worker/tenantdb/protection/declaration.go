package protection

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
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
	Brand   string // quoted as SQL needs it; "" where brands share the table
}

// declarations are by object.
type declarations map[string]declaration

const selectDeclarations = `
SELECT object, mode, coalesce(org_column, ''), coalesce(through, ''), coalesce(shown_by, ''), coalesce(brand_column, '') FROM headgate.protected`

func readDeclarations(ctx context.Context, tx pgx.Tx) (declarations, error) {
	rows, err := collect[declaration](ctx, tx, "what is declared", selectDeclarations)
	all := declarations{}
	for _, d := range rows {
		all[d.Object] = d
	}
	return all, err
}

// readAbsent reads the declared tables that are not found under their names.
func readAbsent(ctx context.Context, tx pgx.Tx) ([]declaredKind, error) {
	all, err := collect[declaredKind](ctx, tx, "what is declared", selectDeclaredKinds)
	return slices.DeleteFunc(all, func(d declaredKind) bool { return d.absent() == "" }), err
}

// selectStrays finds tables with Headgate's policies that are not declared under their names:
// 20 at most. Policies stay with a table that is renamed, and its declaration stays with the name.
const selectStrays = `
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE p.polname = 'headgate_org' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND NOT EXISTS (SELECT FROM headgate.protected d WHERE d.object = pg_catalog.format('%I.%I', n.nspname, c.relname))
 ORDER BY 1 LIMIT 20`

// stray is a table that has Headgate's policies and no declaration.
type stray struct{ Object string }

// judgeAbsent notes declared tables that are not found, and tables that were renamed: nothing
// is open, because policies stay with a table that is renamed, and no tenant of the database
// can be erased. Where another table took the former name, the declaration means that table.
func (s *state) judgeAbsent() (all []Finding) {
	to := "NEW_NAME"
	if len(s.absent) == 1 && len(s.strays) == 1 {
		to = jobs.ShellWord(s.strays[0].Object)
	}
	for _, d := range s.absent {
		all = append(all, Finding{Level: Note, Code: "table_gone", Object: d.Object,
			Next: fmt.Sprintf("if it was renamed, `headgate database protect %s --table %s`; then `headgate database protect %[1]s --withdraw %[3]s`", s.database, to, jobs.ShellWord(d.Object)),
			Says: fmt.Sprintf("table %s is not where its rows can be erased: %s", d.Object, d.absent())})
	}
	for _, t := range s.strays {
		all = append(all, Finding{Level: Note, Code: "table_renamed", Object: t.Object,
			Next: fmt.Sprintf("`headgate database protect %s --table %s`; if the table that has the former name now holds no rows of tenants, also `--withdraw` with that name", s.database, jobs.ShellWord(t.Object)),
			Says: fmt.Sprintf("table %s has Headgate's policies and is not declared under this name, so its rows are not erased: it was renamed, and a table that took its former name counts as the declared one", t.Object)})
	}
	return all
}

// judgeShown notes views of ours that jobs do not find: nothing is open, and jobs fail.
func (s *state) judgeShown() (all []Finding) {
	for _, object := range slices.Sorted(maps.Keys(s.declared)) {
		d := s.declared[object]
		if d.ShownBy == "" {
			continue
		}
		next := fmt.Sprintf("%s; if %s is gone, `headgate database protect %s --withdraw %s`", s.showAgain(d), object, s.database, jobs.ShellWord(object))
		switch {
		case s.relations[d.ShownBy] == nil:
			all = append(all, Finding{Level: Note, Code: "view_gone", Object: d.ShownBy, Next: next,
				Says: fmt.Sprintf("jobs are to reach %s through %s, which is gone, or jobs have no right on it: they are refused", object, d.ShownBy)})
		case !s.space.first():
			all = append(all, Finding{Level: Note, Code: "search_path", Object: d.ShownBy, Next: next,
				Says: fmt.Sprintf("the search_path of job login %s does not begin with %s: a name without a schema does not reach %s", s.login.name, AppSchema, d.ShownBy)})
		}
	}
	return all
}

// showAgain is the command that makes a view of ours anew.
func (s *state) showAgain(d declaration) string {
	if d.Mode == modeView {
		return fmt.Sprintf("`headgate database protect %s --table %s --by view`", s.database, jobs.ShellWord(d.Object))
	}
	return fmt.Sprintf("`headgate database protect %s --view %s`", s.database, jobs.ShellWord(d.Object))
}

// byShort returns the one object that is declared and has this name in some schema. It
// returns false if there is none, or there are several.
func (d declarations) byShort(name string) (object string, ok bool) {
	for one := range d {
		if shortOf(one) != name {
			continue
		}
		if object != "" {
			return "", false
		}
		object = one
	}
	return object, object != ""
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
