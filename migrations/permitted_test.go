package migrations_test

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

// Every statement of the packages that a role's programs use is one that the role may do.
// The statements that are named are not: they belong to another role's programs.
func TestStatementsArePermitted(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	for _, c := range []struct {
		dir, role string
		refused   []string
	}{
		{"../worker/claim", "worker", nil},
		{"../worker/kinds", "worker", nil},
		{"../worker/centre", "worker", nil},
		{"../orchestrator/retention", "worker", nil},
		{"../orchestrator/internal/queue", "worker", []string{
			"askErasureSQL", "lockErasureSQL", "takeKeysSQL",
		}},
		{"../orchestrator/catalog", "worker", []string{
			"addressesOfServerSQL", "authorityDeleteSQL", "authorityInsertSQL", "authorityReplaceSQL", "brandDeleteSQL", "brandSetSQL", "changeTenantsSQL", "claimDeleteSQL", "claimInsertSQL", "claimTakeSQL", "claimantSQL", "databaseDeleteSQL", "databaseForUpdateSQL", "databaseInsertSQL", "databasesShareSQL", "detachSQL", "directUpdateSQL", "domainDeleteSQL", "domainInsertSQL", "domainsDeleteSQL", "domainsInsertSQL", "domainsSQL", "emailDeleteSQL", "emailInsertSQL", "emailsDeleteSQL", "emailsInsertSQL", "featureDeleteSQL", "featureSetSQL", "featureTypeSQL", "featureTypesSQL", "gateDeleteSQL", "gateInsertSQL", "holdFeatureSQL", "holdSlugsSQL", "holdTenantsSQL", "insertAdoptions", "installedSQL", "intentDeleteSQL", "intentFailedSQL", "intentInsertSQL", "intentStepSQL", "keyForUpdateSQL", "keySeenSQL", "keysSQL", "lockBrandSQL", "lockDatabasesSQL", "loginUpdateSQL", "loginsForUpdateSQL", "manyDatabasesInsertSQL", "manyTenantsInsertSQL", "manyTenantsUpdateSQL", "orgIDsLockSQL", "orgIDsSQL", "placelessSQL", "planDeleteSQL", "planSetSQL", "readUpdateSQL", "reattachSQL", "regionDeleteSQL", "regionForUpdateSQL", "regionInsertSQL", "removeTenantsSQL", "renameDatabaseSQL", "renameServerSQL", "renameTenantSQL", "resealSQL", "retireSQL", "serverDeleteSQL", "serverForUpdateSQL", "serverInsertSQL", "serverShareSQL", "setAddressSQL", "setHostsSQL", "setProtectionSQL", "setRoomSQL", "setServerSQL", "setServerStateSQL", "slugsAsideSQL", "statusUpdateSQL", "statusWaitingUpdateSQL", "tenantLockedSQL", "tenantsInsertSQL", "tenantsLockSQL", "verifiedInsertSQL",
		}},
		{"../orchestrator/schedule", "worker", []string{
			"clearOverrides", "compareTemplates", "countWrong", "deleteCalendar", "deleteTemplatesSQL", "deleteWindowSQL", "holdBrandSQL", "holdCalendarsSQL", "holdTemplateBrandsSQL", "insertOverrides", "selectCalendarOwner", "selectDrift", "selectTemplates", "selectWhy", "spoilRows", "upsertCalendar", "upsertTemplates", "upsertWindow",
		}},
		{"../orchestrator/catalog", "api", nil},
		{"../orchestrator/catalog/importer", "api", nil},
		{"../orchestrator/admission", "api", nil},
		{"../orchestrator/explain", "api", nil},
		{"../orchestrator/schedule", "api", nil},
		{"../orchestrator/internal/queue", "api", []string{"endErasureSQL", "eraseHistorySQL", "eraseJobsSQL", "lateSessionSQL"}},
		{"../cmd/headgate/internal/doctor", "api", nil},
	} {
		jobstest.PermitQueries(t, c.dir, env, c.role, c.refused...)
	}
}
