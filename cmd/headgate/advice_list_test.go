package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sourcesIn parses the files of a folder, tests or not, by name.
func sourcesIn(t *testing.T, dir string, tests bool) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		files[name] = file
	}
	return files
}

// findingsWithNext are doctor's findings that are not well and name a next step, as `CHECK:
// NEXT`, with VALUE for what is no constant.
func findingsWithNext(t *testing.T) (found []string) {
	t.Helper()
	for _, file := range sourcesIn(t, "internal/doctor", false) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is || len(call.Args) < 4 || !notes(call.Fun) {
				return true
			}
			if state, is := call.Args[0].(*ast.Ident); is && state.Name == "StateOK" {
				return true
			}
			if next := textOf(call.Args[2]); next != "" {
				found = append(found, textOf(call.Args[1])+": "+next)
			}
			return true
		})
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// notes says whether a call is note(…) or d.on(…)(…).
func notes(fun ast.Expr) bool {
	if name, is := fun.(*ast.Ident); is {
		return name.Name == "note"
	}
	call, is := fun.(*ast.CallExpr)
	if !is {
		return false
	}
	of, is := call.Fun.(*ast.SelectorExpr)
	return is && of.Sel.Name == "on"
}

// codesOfExplain are the names of explain's codes.
func codesOfExplain(t *testing.T) (found []string) {
	t.Helper()
	for _, decl := range sourcesIn(t, "../../orchestrator/explain", false)["../../orchestrator/explain/codes.go"].Decls {
		group, is := decl.(*ast.GenDecl)
		if !is || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			found = append(found, spec.(*ast.ValueSpec).Names[0].Name)
		}
	}
	slices.Sort(found)
	return found
}

// classesOf are the classes of failures for which a function of a file, or a variable, has a
// step: the keys of a map, or the cases of a switch, whose text names a command.
func classesOf(t *testing.T, dir, name, in string) (found []string) {
	t.Helper()
	ast.Inspect(sourcesIn(t, dir, false)[filepath.Join(dir, name)], func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			return n.Name.Name == in
		case *ast.GenDecl:
			return len(n.Specs) == 0 || !isVariable(n.Specs[0]) || n.Specs[0].(*ast.ValueSpec).Names[0].Name == in
		case *ast.KeyValueExpr:
			if class, is := n.Key.(*ast.SelectorExpr); is && strings.Contains(textOf(n.Value), "`headgate") {
				found = append(found, class.Sel.Name)
			}
		case *ast.CaseClause:
			for _, c := range n.List {
				if class, is := c.(*ast.SelectorExpr); is {
					found = append(found, class.Sel.Name)
				}
			}
		}
		return true
	})
	slices.Sort(found)
	return found
}

func isVariable(spec ast.Spec) bool { _, is := spec.(*ast.ValueSpec); return is }

// A case of a next step is the test that carries the step out and looks again, or a reason why
// none does.
type nextCase struct{ test, none string }

func by(test string) nextCase  { return nextCase{test: test} }
func none(why string) nextCase { return nextCase{none: why} }

const (
	saysNothing = "the fact says no next step"
	readsOnly   = "the step is to look: the login lacks a right, or the centre was away during the look"
	ofOperators = "the step is outside Headgate: the server's own settings, its disk, its clock or another program"
	looksOnly   = "the command shows more and changes nothing"
	behindOne   = "needs a pooler in transaction mode that is told of wrongly: make test-pgbouncer looks at the finding only"
)

// nextOfExplain is by explain's codes.
var nextOfExplain = map[string]nextCase{
	"CodePausedTenant": by("TestWhatExplainAdvisesHelps"), "CodePausedKind": by("TestWhatExplainAdvisesHelps"), "CodePausedQueue": by("TestWhatExplainAdvisesHelps"), "CodePausedServer": by("TestWhatExplainAdvisesHelps"),
	"CodeServerState": by("TestWhatExplainAdvisesHelps"), "CodeDatabaseState": by("TestWhatExplainAdvisesHelps"), "CodeRate": by("TestWhatExplainAdvisesHelps"),
	"CodeTenantLimit": by("TestWhatExplainAdvisesHelps"), "CodeKindLimit": by("TestWhatExplainAdvisesHelps"), "CodeKindTenantLimit": by("TestWhatExplainAdvisesHelps"),
	"CodeQueueLimit": by("TestWhatExplainAdvisesHelps"), "CodeServerBudget": by("TestWhatExplainAdvisesHelps"),
	"CodeNotDue": by("TestWhatExplainAdvisesHelps"), "CodeRetryDue": by("TestWhatExplainAdvisesHelps"), "CodePutOff": by("TestWhatExplainAdvisesHelps"),
	"CodeTenantStatus": by("TestWhatExplainAdvisesOfTenantsHelps"), "CodeFeatureOff": by("TestWhatExplainAdvisesOfTenantsHelps"), "CodeKindRefused": by("TestWhatExplainAdvisesOfTenantsHelps"),
	"CodeNoWorker": by("TestTheWorkerThatIsAdvisedDoesTheWork"), "CodeWorkersSilent": by("TestTheWorkerThatIsAdvisedDoesTheWork"), "CodeNoWorkerQueue": by("TestTheWorkerThatIsAdvisedDoesTheWork"),
	"CodeAllDraining": by("TestTheWorkerThatIsAdvisedBesideOthersDoesTheWork"), "CodeNoWorkerForTwo": by("TestTheWorkerThatIsAdvisedBesideOthersDoesTheWork"),
	"CodeRowLocked": by("TestTheSessionThatExplainNamesIsEnded"), "CodeLastAttempt": by("TestWhatExplainAdvisesOfHeldJobsHelps"),
	"CodeQuarantined": none("TestWhatExplainAdvisesOfEndedJobsHelps does it, by the class of the last attempt"),
	"CodeHeld":        none("the steps are those of CodeLastAttempt, by class"),
	"CodeClaimsFail":  none(looksOnly + ": TestDoctorSeesClaimsFail"), "CodeNoWorkerKind": none("the step is to start the operator's own program"),
	"CodeWorkerSilent": none(ofOperators), "CodeBreakerOpen": none(ofOperators), "CodeCancelling": none(looksOnly), "CodeGone": none("the step is to enqueue the job anew"),
	"CodeBreakerHalfOpen": none(saysNothing), "CodeDue": none(saysNothing), "CodeLostWorker": none(saysNothing), "CodeNoWork": none(saysNothing), "CodeRunning": none(saysNothing), "CodeShare": none(saysNothing),
	"CodeSuspect": none(saysNothing), "CodeTenantMoving": none(saysNothing), "CodeTurn": none(saysNothing), "CodeUnconfirmed": none(saysNothing),
}

// nextOfClasses is by the classes for which explain (CodeLastAttempt, CodeHeld) names a command.
var nextOfClasses = map[string]nextCase{
	"ClassAuthFailed": by("TestWhatExplainAdvisesOfHeldJobsHelps"), "ClassUnprotected": by("TestAnUnprotectedJobSaysWhatToDo"),
	"ClassWrongCentre": none("doctor names the same command: TestCentralAdopt"), "ClassReplica": none("doctor names the same command: TestFaultsReadAddress"),
	"ClassUntrusted": none("doctor names the same command: TestCertificateAuthorities"), "ClassReadOnly": none(ofOperators), "ClassSchemaOlder": none(looksOnly),
	"ClassConnectTimeout": none(looksOnly), "ClassServerFull": none(looksOnly), "ClassUnguarded": none("the command is TestWhatExplainAdvisesOfEndedJobsHelps's, behind a policy of the operator's"),
}

// nextOfLogins is by the classes of a login that doctor cannot use.
var nextOfLogins = map[string]nextCase{
	"ClassAuthFailed": by("TestWhatDoctorAdvisesOfDatabasesHelps"), "ClassWrongDatabase": by("TestADatabaseThatWasMadeAnewIsTakenIn"), "ClassWrongCentre": by("TestCentralAdopt"),
	"ClassUndecryptable": by("TestAnotherKeyOfTheSameID"), "ClassUntrusted": by("TestFaultsFirstStepsOverTLS"), "ClassServerFull": by("TestWhatDoctorAdvisesOfAFullServerHelps"), "ClassSchemaNewer": none(ofOperators),
}

// nextOfDoctor is by the findings.
var nextOfDoctor = map[string]nextCase{
	"VALUE VALUE: VALUE":      by("TestWhatDoctorAdvisesOfWorkHelps"), // queues and kinds that no worker serves
	"VALUE login: VALUEVALUE": none("nextOfLogins has them"),
	"VALUE login: nothing: the first job that a worker runs there brings it up to date": none("nobody needs to do anything"),
	"VALUE login: when it is where it is to be: `headgate database reattach VALUE`":     by("TestServersDatabasesAndRegionsAreChanged"),
	"VALUE: VALUE": none(behindOne), "VALUE: correct it with `headgate database login VALUE`": none(behindOne),
	"VALUE: give it the address of a replica of its present primary: HEADGATE_JOB_READ_URL and `headgate database login VALUE`VALUE": by("TestFaultsReadAddress"),
	"VALUE: see pg_stat_replication on the primary, and recovery_min_apply_delay and the log of the replicaVALUE":                    none(ofOperators),
	"VALUE: see that the replica runs and takes the job loginVALUE":                                                                  by("TestFaultsReadAddress"),
	"authorities: see that its login may read the tables of schema headgate":                                                         none(readsOnly),
	"certificate: VALUE": by("TestCertificateAuthorities"), "claims: VALUE": by("TestDoctorSeesClaimsFail"),
	"clock: set the wrong one right (NTP)": none(ofOperators), "durability: VALUE": none(ofOperators), "encoding: VALUE": none(ofOperators),
	"connect: GRANT CONNECT to whoever else works there, as the application; then have the database's owner run: VALUE": by("TestADatabaseMadeAnewByHandIsClosed"),
	"connect: see that the job login may read the catalogs, and run `headgate doctor` again":                            none(readsOnly),
	"functions: have an administrator run there: GRANT EXECUTE ON FUNCTION VALUE TO headgate_job":                       by("TestDoctorFinds"),
	"isolation: VALUE": by("TestWhatDoctorAdvisesOfDatabasesHelps"), "isolation: `headgate database protect VALUE` lists all": none(looksOnly),
	"isolation: see that the job login may read the catalogs, and run `headgate doctor` again":                                                                                none(readsOnly),
	"isolation: when nothing is open: `headgate database set VALUE --protection enforce`":                                                                                     by("TestAnObservedDatabaseIsEnforcedAsAdvised"),
	"job logins: give each database a login of its own: an administrator's CREATE ROLE … LOGIN PASSWORD … IN ROLE headgate_job, then `headgate database login VALUE`":         by("TestDatabasesOfOneLoginAreGivenTheirOwn"),
	"key VALUE: `headgate key verify` names what does not open; give the ring the key that sealed it, or store the addresses again with `headgate database login --key-lost`": by("TestAnotherKeyOfTheSameID"),
	"key VALUE: add it behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE), or store the addresses again with `headgate database login --key-lost`":  by("TestWhatDoctorAdvisesOfDatabasesHelps"),
	"key VALUE: put another key in front: `headgate key add`, then `headgate key promote ID`":                                                                                 by("TestTheFirstKeyIsRetired"),
	"key VALUE: see that the central database's login may read the tables of schema headgate":                                                                                 none(readsOnly),
	"kind VALUE: VALUE": none("the step is to change the operator's own program"),
	"organisations: `headgate job enqueue headgate.organisations --database VALUE --args VALUE`; rows too many stay unless the arguments say remove":                by("TestDoctorComparesOrganisations"),
	"organisations: see that its login may read the tables of schema headgate":                                                                                      none(readsOnly),
	"organisations: see what the error says, and run `headgate doctor` again":                                                                                       none(readsOnly),
	"large objects: VALUEREVOKE EXECUTE ON FUNCTION VALUE FROM PUBLIC, by a superuser in the central database":                                                      by("TestLargeObjectsAreNobodys"),
	"large objects: see that its login may read pg_proc and pg_largeobject_metadata":                                                                                none(readsOnly),
	"listen: correct DATABASE_DIRECT_URL":                                                                                                                           none(behindOne),
	"listen: if a pooler stands before the central database, set DATABASE_DIRECT_URL to the address past it":                                                        none(behindOne),
	"listen: set DATABASE_DIRECT_URL to the address past the pooler":                                                                                                none(behindOne),
	"login: give each program a login of its own: `headgate central prepare` makes the roles, CREATE ROLE … LOGIN PASSWORD … IN ROLE VALUE_worker a worker's login": by("TestRolesAfterTheMigrations"),
	"login: see that its login may read the tables of schema headgate":                                                                                              none(readsOnly),
	"mark: `headgate central adopt --all`":                                                                                                                          by("TestCentralAdopt"), "mark: see that its login may read the tables of schema headgate": none(readsOnly),
	"ownership: VALUE": by("TestASchemaThatAnotherRoleGetsIsFound"), "ownership: `headgate doctor` shows them when these are mended": none(looksOnly),
	"ownership: see that the job login may read the catalogs, and run `headgate doctor` again": none(readsOnly),
	"pooler: VALUE": by("TestWhatDoctorAdvisesOfDatabasesHelps"), "queue VALUE: VALUE": by("TestAQueueThatIsPausedInRiver"),
	"queue: the statement beside": none("the statement is an ALTER ROLE, and the tests share their role"), "reachable: see what its databases say": none("its databases' findings say the steps"),
	"ring: see that the central database's login may read the tables of schema headgate": none(readsOnly), "ring: set HEADGATE_KEY or HEADGATE_KEY_FILE": none(readsOnly),
	"roles: `headgate central prepare --prefix VALUE`, then `headgate migrate up`":                by("TestRolesThatAreMissing"),
	"roles: `headgate migrate up`, as a member of VALUE_owner or as the owner of schema headgate": by("TestRolesAfterTheMigrations"),
	"roles: see that its login may read the tables of schema headgate":                            none(readsOnly),
	"schedule errors: `headgate schedule list --failing` shows them with what is wrong":           by("TestWhatDoctorAdvisesOfWorkHelps"),
	"schedules: VALUE": by("TestWhatDoctorAdvisesOfWorkHelps"), "schema: `headgate migrate up`": by("TestDoctorAdvisesToMigrate"),
	"schema: connect with a login of one of the roles that `headgate central prepare` makes, as docs/operations.md says; this one may read nothing here": none(ofOperators),
	"schema: upgrade headgate": none(ofOperators), "session: ALTER ROLE, as beside": none(behindOne),
	"settings: a superuser's ALTER ROLE, or DATABASE, … RESET session_replication_role":                                               by("TestDoctorNamesTheBrakes"),
	"settings: ask who set it (a host does when a disk is full); then ALTER ROLE, or DATABASE, … RESET default_transaction_read_only": by("TestDoctorNamesTheBrakes"),
	"settings: see that the job login may connect and read":                                                                           none(readsOnly),
	"snapshots: GRANT pg_read_all_stats TO this login, or run doctor as a login that has that":                                        none(ofOperators),
	"snapshots: end it, or let long reports run on a standby without hot_standby_feedback":                                            none(ofOperators),
	"state: `headgate server resume VALUE`":                                                                                           by("TestServersDatabasesAndRegionsAreChanged"),
	"workers: VALUE":                                                                                                                  by("TestWhatDoctorAdvisesOfWorkHelps"),
	"workers: see that their processes run and reach the central database, or VALUE":                                                  by("TestTheWorkerThatIsAdvisedDoesTheWork"),
	"workers: see that their processes run; `headgate worker list` names them":                                                        none(looksOnly),
}

// Each next step that explain and doctor can say has its case: a test that carries the step
// out, or the reason why none does. A new step fails until somebody writes its case, and a
// case of a step that is gone fails too.
func TestEachNextStepHasItsCase(t *testing.T) {
	t.Parallel()
	tests := map[string]string{} // the text of the file that a test stands in
	for name, file := range sourcesIn(t, ".", true) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			if f, is := decl.(*ast.FuncDecl); is && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = string(text)
			}
		}
	}
	for what, c := range map[string]struct {
		steps []string
		cases map[string]nextCase
	}{
		"explain's code":            {codesOfExplain(t), nextOfExplain},
		"explain's class":           {classesOf(t, "../../orchestrator/explain", "facts.go", "classSteps"), nextOfClasses},
		"a login's class in doctor": {classesOf(t, "internal/doctor", "database.go", "nextOf"), nextOfLogins},
		"doctor's finding":          {findingsWithNext(t), nextOfDoctor},
	} {
		require.Equal(t, slices.Sorted(maps.Keys(c.cases)), c.steps, "%s: the steps of the sources on the right, their cases on the left", what)
		for step, found := range c.cases {
			if found.none != "" {
				require.Empty(t, found.test, step)
				continue
			}
			text, there := tests[found.test]
			require.True(t, there, "%s %s: there is no test %s", what, step, found.test)
			if what == "explain's code" {
				require.Regexp(t, `explain\.`+step+`\b`, text, "%s does not stand in the file of %s", step, found.test)
			}
		}
	}
}
