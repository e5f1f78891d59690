package address

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// FuzzParse plants a password wherever one may stand and holds Parse to three
// promises: it does not panic, nothing that it returns or prints shows the
// password, and what it accepts is within the bounds of Check.
func FuzzParse(f *testing.F) {
	for _, rest := range []string{
		"", "h:5432/db", "h:notaport/db", "h/d?passfile=/etc/shadow", "@h/d", "/x@h/d", "host=h", " port=x", "&port=x",
		"' host=h", "=", "\x00", "%zz", "[::1", "h1,h2/d", "?#", `\`, "h/d?password=x", " user=u dbname=d host=h",
	} {
		f.Add(rest, rest)
	}
	const first, second = "S3cretOne", "S3cretTwo"
	f.Fuzz(func(t *testing.T, middle, rest string) {
		if strings.Contains(middle+rest, "S3cret") {
			return
		}
		password := first + middle + second
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password)
		for _, dsn := range []string{
			"postgres://user:" + url.PathEscape(password) + "@" + rest,
			"postgres://host/db?user=u&password=" + url.QueryEscape(password) + "&" + rest,
			"password='" + quoted + "' " + rest,
			// Not encoded: whatever it is taken for, it may not come back.
			"postgres://user:" + password + "@host/db",
			"postgres://user:" + password + "@" + strings.ReplaceAll(rest, "@", ""),
			"host=h user=u dbname=d password=" + first + strings.ReplaceAll(middle, "=", " ") + second,
			rest,
		} {
			a, err := Parse(dsn)
			printed := fmt.Sprintf("%v %+v %#v %s %q %x", a, a, a, a, a, a)
			if err != nil {
				printed += fmt.Sprintf("%v %+v %#v", err, err, err)
			}
			if strings.Contains(printed, first) || strings.Contains(printed, second) {
				t.Fatalf("%q shows the password: %s", dsn, printed)
			}
			if err == nil && a.checkParts() != nil {
				t.Fatalf("%q is accepted but %v", dsn, a.checkParts())
			}
		}
	})
}
