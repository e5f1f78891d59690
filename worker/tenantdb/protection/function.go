package protection

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// function runs with its owner's rights, and the login can make it run.
type function struct {
	Name      string // schema.name(types), with every type's schema
	Shown     string // as people write it
	Short     string
	Owner     string
	Owned     bool // by the login or its group, whom the policies hold
	Extension string
	Public    bool   // PUBLIC may execute it
	Held      string // who may else, as REVOKE names them: roles, or ""
	Trigger   string // a table that the login writes and whose trigger it is, or ""
	Event     string // an event trigger that runs it when the login makes or drops something, or ""
}

// selectFunctions reads SECURITY DEFINER functions outside schema headgate: those that a role
// of $1 may execute, by name or because something else calls them, those that are part of an
// aggregate it may execute, and those that a trigger runs when somebody writes the relations
// $2: their own triggers, those of partitions and children, and those of what a view shows.
const selectFunctions = `
WITH RECURSIVE written(oid) AS (
    SELECT unnest($2::oid[])
    UNION
    SELECT behind.oid FROM written CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = written.oid
        UNION ALL
        SELECT d.refobjid FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
         WHERE w.ev_class = written.oid AND w.ev_type = '1' AND d.refclassid = 'pg_catalog.pg_class'::regclass) AS behind(oid)
)
SELECT pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, (
           SELECT coalesce(pg_catalog.string_agg(pg_catalog.format('%I.%I', tn.nspname, t.typname), ', ' ORDER BY a.n), '')
             FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a(type, n)
             JOIN pg_catalog.pg_type t ON t.oid = a.type JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace)),
       pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
       p.proname::text, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.proowner)), p.proowner = ANY ($1::oid[]),
       coalesce((SELECT e.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                  WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' LIMIT 1), ''),
       EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS x WHERE x.grantee = 0),
       coalesce((SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)), ', ')
                   FROM pg_catalog.aclexplode(p.proacl) AS x
                  WHERE x.grantee <> 0 AND x.grantee <> p.proowner AND pg_catalog.pg_has_role(($1::oid[])[1], x.grantee, 'USAGE')), ''),
       coalesce((SELECT pg_catalog.format('%I.%I', cn.nspname, c.relname) FROM pg_catalog.pg_trigger g
                   JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
                  WHERE g.tgfoid = p.oid AND g.tgenabled <> 'D' AND g.tgrelid IN (SELECT oid FROM written) ORDER BY 1 LIMIT 1), ''),
       coalesce((SELECT pg_catalog.quote_ident(e.evtname) FROM pg_catalog.pg_event_trigger e WHERE e.evtfoid = p.oid AND e.evtenabled <> 'D' ORDER BY 1 LIMIT 1), '')
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.prosecdef AND n.nspname <> 'headgate' AND (
       EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtfoid = p.oid AND e.evtenabled <> 'D') OR
       EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgfoid = p.oid AND g.tgenabled <> 'D' AND g.tgrelid IN (SELECT oid FROM written))
    OR EXISTS (SELECT FROM unnest($1::oid[]) AS r WHERE pg_catalog.has_function_privilege(r, p.oid, 'EXECUTE') AND (
           pg_catalog.has_schema_privilege(r, n.oid, 'USAGE')
        OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid = p.oid AND d.deptype <> 'e')))
    OR EXISTS (SELECT FROM pg_catalog.pg_aggregate a
                WHERE a.aggfnoid >= 16384 AND p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
                  AND EXISTS (SELECT FROM unnest($1::oid[]) AS r WHERE pg_catalog.has_function_privilege(r, a.aggfnoid, 'EXECUTE'))))
 ORDER BY 1`

func readFunctions(ctx context.Context, tx pgx.Tx, l login, relations map[string]*relation) ([]function, error) {
	written := []uint32{}
	for _, r := range relations {
		if has := r.has(); has.writes() || has.Truncate {
			written = append(written, r.OID)
		}
	}
	return collect[function](ctx, tx, "functions that run with their owner's rights", selectFunctions, l.as(), written)
}

// harmlessFunctions come with extensions and reach no row of a tenant.
var harmlessFunctions = map[string][]string{
	"pgaudit":    {"pgaudit_ddl_command_end", "pgaudit_sql_drop"}, // of event triggers: they write the server's log
	"pg_graphql": {"get_schema_version", "increment_schema_version"},
}

func (f function) isHarmless() bool { return slices.Contains(harmlessFunctions[f.Extension], f.Short) }

func (s *state) judgeFunctions() (all []Finding) {
	for _, f := range s.functions {
		if f.Owned || f.isHarmless() || s.declared.is(f.Name, modeFunction) {
			continue
		}
		how := "jobs may call"
		switch {
		case f.Trigger != "":
			how = "a trigger of " + f.Trigger + " runs"
		case f.Event != "":
			how = "event trigger " + f.Event + ", which temporary tables of jobs set off, runs"
		}
		all = append(all, Finding{
			Level: Open, Code: "definer_function", Object: f.Shown, Next: s.revokeFunction(f),
			Says: fmt.Sprintf("%s function %s with the rights of %s (SECURITY DEFINER), whom the policies do not hold: nobody can tell which rows it reads", how, f.Shown, f.Owner),
		})
	}
	return all
}

// revokeFunction takes the function from jobs. Where everybody may call it, or a trigger does,
// a person who has read it may say instead that it is to be trusted.
func (s *state) revokeFunction(f function) string {
	trust := fmt.Sprintf("if it keeps to rows of headgate.current_org(), `headgate database protect %s --trusted-function %s --reason TEXT`", s.database, jobs.ShellWord(f.Shown))
	if f.Trigger != "" || f.Event != "" {
		return trust
	}
	if f.Public {
		return fmt.Sprintf("REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, and GRANT it to the application's roles; or, %s", f.Shown, trust)
	}
	return fmt.Sprintf("REVOKE EXECUTE ON FUNCTION %s FROM %s; or, %s", f.Shown, cmp.Or(f.Held, jobGroup), trust)
}
