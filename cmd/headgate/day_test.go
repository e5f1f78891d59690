package main

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A day of an operator, typed as it stands in docs/catalog.md, leaves the catalog, the audit
// and the output that stand there. Databases have names of the same length, because other
// tests use the server too.
func TestTheDayOfAnOperator(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	_, address := emptyDatabase(t)
	c := newCLI(t, address)
	c.ok("migrate", "up")
	c.set("HEADGATE_ADMIN_URL", b.server.address(b.admin, adminPassword, "postgres"))
	c.set("USER", "ana")
	c.secrets = append(c.secrets, adminPassword)
	where := "--plain-loopback"
	if b.server.socket {
		where = "--socket " + b.server.host
	}
	chance := strings.ToLower(rand.Text())
	names := map[string]string{"shared-1": "s" + chance[:6] + "1", "shared-2": "s" + chance[:6] + "2", "acme-db": "a" + chance[:4] + "db"}
	fitting, back := []string{"--host db1.internal", where}, []string{}
	for documented, ours := range names {
		fitting, back = append(fitting, documented, ours), append(back, ours, documented)
		t.Cleanup(func() {
			admin(t, "postgres", fmt.Sprintf(`DROP DATABASE IF EXISTS "%s" WITH (FORCE)`, ours))
			for _, role := range []string{"job", "headgate", "app"} {
				admin(t, "postgres", fmt.Sprintf(`DROP ROLE IF EXISTS "%s_%s"`, ours, role))
			}
		})
	}
	s := newPersonsTerminal(c)
	typed := func(command string) string {
		return strings.NewReplacer(back...).Replace(s.answers(c, strings.NewReplacer(fitting...).Replace(command)))
	}
	require.Greater(t, holdsDocument(t, "../../docs/catalog.md", nil, typed), 60)

	login := regexp.MustCompile(`"login": "[^"]*"`) // the test server's administrator
	for name, command := range map[string]string{
		"region_list": "region list", "server_show": "server show main", "database_show": "database show shared-1", "feature_list": "feature list",
		"plan_list": "plan list", "plan_show": "plan show free", "tenant_show": "tenant show acme-corp", "tenant_brand_list": "tenant brand list acme-corp",
		"tenant_suspend_dry": "tenant suspend globex --dry-run", "tenant_remove_dry": "tenant remove shop-04 --dry-run",
		"tenant_sync_nothing": "tenant sync fewer.csv --source stores --dry-run", "audit_list": "audit list --tenant acme-corp",
	} {
		golden(t, name, login.ReplaceAllString(typed("headgate "+command+" -o json 2>/dev/null"), `"login": "<login>"`))
	}
}
