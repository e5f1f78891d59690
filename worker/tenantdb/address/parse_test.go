package address

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	full := Address{
		Host: "db1.example.com", Port: 5433, Database: "acme", User: "headgate", Password: NewSecret("p@ss/w:rd? #1"),
		SSLMode: "verify-ca", RootCert: "our-ca.pem", ConnectTimeout: 7 * time.Second, TargetSessionAttrs: "read-write",
	}
	small := Address{Host: "db1", Port: 5432, Database: "acme", User: "u", Password: NewSecret("secret")}
	socket := Address{Host: "/tmp/pg", Port: 5440, Database: "acme", User: "u", Password: NewSecret("secret")}
	ipv6 := Address{Host: "fd00::1", Port: 5432, Database: "acme", User: "u", Password: NewSecret("secret")}

	for name, test := range map[string]struct {
		dsn  string
		want Address
	}{
		"url, all":          {"postgres://headgate:p%40ss%2Fw:rd%3F%20%231@DB1.example.com.:5433/acme?sslmode=verify-ca&sslrootcert=our-ca.pem&connect_timeout=7&target_session_attrs=read-write", full},
		"keywords, all":     {`host=db1.example.com port = 5433 dbname=acme user=headgate password='p@ss/w:rd? #1' sslmode=verify-ca sslrootcert=our-ca.pem connect_timeout=7 target_session_attrs=read-write`, full},
		"url":               {"postgresql://u:secret@db1/acme", small},
		"url, newline":      {"postgresql://u:secret@db1/acme\n", small},
		"url, parts inside": {"postgres://?host=db1&dbname=acme&user=u&password=secret", small},
		"keywords":          {" host=db1 user=u  password=secret dbname='acme' ", small},
		"escapes":           {`host=db1 user=u password=sec\ret dbname='ac\me'`, small},
		"socket, url":       {"postgres://u:secret@%2Ftmp%2Fpg:5440/acme", socket},
		"socket, query":     {"postgres://u:secret@/acme?host=/tmp/pg&port=5440", socket},
		"socket, keywords":  {"host=/tmp/pg port=5440 dbname=acme user=u password=secret", socket},
		"ipv6, url":         {"postgres://u:secret@[FD00::1]/acme", ipv6},
		"ipv6, keywords":    {"host=fd00:0::1 dbname=acme user=u password=secret", ipv6},
		"mapped":            {"host=::ffff:10.0.0.1 dbname=acme user=u password=secret", Address{Host: "10.0.0.1", Port: 5432, Database: "acme", User: "u", Password: NewSecret("secret")}},
		"plus is a plus":    {"postgres://u:a+b@db1/acme", Address{Host: "db1", Port: 5432, Database: "acme", User: "u", Password: NewSecret("a+b")}},
		"colon in password": {"postgres://u:a:b@db1/acme", Address{Host: "db1", Port: 5432, Database: "acme", User: "u", Password: NewSecret("a:b")}},
		"quote in password": {`host=db1 user=u dbname=acme password='it\'s \\ '`, Address{Host: "db1", Port: 5432, Database: "acme", User: "u", Password: NewSecret(`it's \ `)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.dsn)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

// The sentences that a person meets who pastes something wrong. S3cret stands
// wherever a password, or a piece of one, may stand.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"":                     errNotPostgres.Error(),
		"   ":                  errNotPostgres.Error(),
		"Server=h;Password=x":  errNotPostgres.Error(),
		"S3cret":               errNotPostgres.Error(),
		"mysql://u:S3cret@h/d": errNotPostgres.Error(),
		"jdbc:postgresql://h/d?user=u&password=S3cret": errNotPostgres.Error(),
		"POSTGRES://u:S3cret@h/d":                      errNotPostgres.Error(),
		"user S3cret":                                  errNotPostgres.Error(),

		"postgres://u@host/db":            "password missing",
		"postgres://u:@host/db":           "password missing: its value is empty",
		"postgres://:S3cret@host/db":      "user missing: its value is empty",
		"postgres://u:S3cret@/db":         "host missing",
		"postgres://u:S3cret@host/":       "database missing",
		"postgres://u:S3cret@host:/db":    "port missing: its value is empty",
		"host='' user=u password=S3cret":  "host missing: its value is empty",
		"host= user=u":                    "host: the value given is neither a host name nor an IP address",
		"user=u password=S3cret dbname=d": "host missing",

		"postgres://user:S3cret@h:notaport/db": `port: "notaport" is not 1–65535`,
		"postgres://user:S3cret@h:0/db":        `port: "0" is not 1–65535`,
		"postgres://user:S3cret@h:65536/db":    `port: "65536" is not 1–65535`,
		"postgres://user:S3cret@h:+5432/db":    `port: the value given is not 1–65535`,
		"postgres://user:S3cret@h:05432/db":    `port: "05432" is not 1–65535`,
		"host=h port=-1 password=S3cret":       `port: "-1" is not 1–65535`,
		"password=S3cret port=x":               `port: the value given is not 1–65535`,

		"postgres://u:S3cret@h/d?passfile=/etc/shadow":      `option "passfile" is not allowed; allowed are host, port, dbname, user, password, sslmode, sslrootcert, target_session_attrs, connect_timeout`,
		"postgres://u:S3cret@h/d?pool_max_conns=100000":     `option "pool_max_conns" is not allowed: the number of connections belongs to the server's budget`,
		"postgres://u:S3cret@h/d?sslrootcert=/etc/shadow":   "sslrootcert: give the name of a certificate in Headgate's store (letters, digits, . _ -), not a path",
		"postgres://u:S3cret@h/d?sslmode=off":               `sslmode: "off" is not one of disable, allow, prefer, require, verify-ca, verify-full`,
		"postgres://u:S3cret@h/d?target_session_attrs=rw":   `target_session_attrs: "rw" is not one of any, read-write, read-only, primary, standby, prefer-standby`,
		"postgres://u:S3cret@h/d?connect_timeout=0":         `connect_timeout: "0" is not 1–300`,
		"postgres://u:S3cret@h/d?host=other":                "host is given twice",
		"postgres://u:S3cret@h/d?sslmode":                   "connection string: each option after the ? is written option=value, and a & in a value %26",
		"host=h host=other password=S3cret user=u dbname=d": "host is given twice",

		"postgres://u:S3cret@h1,h2/d":                            errSeveralHosts.Error(),
		"postgres://u:S3cret@h1:1,h2:2/d":                        errSeveralHosts.Error(),
		"host=h1,h2 user=u password=S3cret dbname=d":             errSeveralHosts.Error(),
		"host=h1 port=5432,5433 user=u password=S3cret dbname=d": errSeveralHosts.Error(),

		"postgres://u:p@S3cret@h/d":                  errEncode.Error(),
		"postgres://u:p/S3cret@h/d":                  errEncode.Error(),
		"postgres://u:p?S3cret@h/d":                  errEncode.Error(),
		"postgres://u:p#S3cret@h/d":                  errEncode.Error(),
		"postgres://u:S3cret%zz@h/d":                 errEscape.Error(),
		"postgres://u:S3cret":                        "port: the value given is not 1–65535",
		"postgres://h/d?user=u&password=a&S3cret=b":  "an option that is not known follows the password or has no plain name; a password that holds special characters is quoted (password='…') or, in a URL, percent-encoded",
		"host=h user=u dbname=d password=a S3cret":   errPair.Error(),
		"host=h password='S3cret":                    errQuote.Error(),
		"host=h password='a'S3cret":                  errQuote.Error(),
		`host=h password=S3cret\`:                    errBackslash.Error(),
		"host=h;password=S3cret user=u":              "host: the value given is neither a host name nor an IP address",
		"password=S3cret passfile=/etc/shadow":       `option "passfile" is not allowed; allowed are host, port, dbname, user, password, sslmode, sslrootcert, target_session_attrs, connect_timeout`,
		"host=127.1 user=u password=S3cret dbname=d": `host: "127.1" is neither a host name nor an IP address`,
		"postgres://u:S3cret@fd00::1/d":              "host: an IPv6 address stands in brackets, as in [::1]:5432",
		"postgres://u:S3cret@[h]/d":                  "host: brackets hold an IPv6 address, as in [::1]:5432",
		"postgres://u:S3cret@[fe80::1%25eth0]/d":     "host: an IPv6 address with a zone is not allowed",
		"postgres://u:S3cret@h/a/b":                  "database: a / in the name is written %2F",
		"postgres://u:S3cret@h/a%3Db":                `database: a name may not hold "=" or "://"`,
		"postgres://u:S3cret%00@h/d":                 "password: control characters and invalid UTF-8 are not allowed",
		"postgres://u%0A:S3cret@h/d":                 "user: control characters and invalid UTF-8 are not allowed",
		"postgres://u:S3cret\x00@h/d":                "connection string: control characters and invalid UTF-8 are not allowed",
		"postgres://u:S3cret@h/d\xff":                "connection string: control characters and invalid UTF-8 are not allowed",
	} {
		t.Run(dsn, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(dsn)
			require.EqualError(t, err, want)
			require.NotContains(t, err.Error(), "S3cret")
			require.Zero(t, got)
		})
	}
}

func TestParseRefusesEveryForeignOptionByName(t *testing.T) {
	t.Parallel()
	for _, option := range append(foreign, "evil", "SSLMODE", "search.path") {
		for _, dsn := range []string{
			"postgres://u:S3cret@h/d?" + option + "=/etc/shadow",
			"host=h user=u password='S3cret' dbname=d " + option + "=/etc/shadow",
		} {
			_, err := Parse(dsn)
			require.ErrorContains(t, err, `option "`+option+`" is not allowed`, dsn)
			require.NotContains(t, err.Error(), "shadow")
			require.NotContains(t, err.Error(), "S3cret")
		}
	}
}

func TestParseRefusesTheOverlong(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	for dsn, want := range map[string]string{
		"postgres://u:" + long(5000) + "@h/d":                "connection string: 5017 bytes is too long; at most 4096 are allowed",
		"postgres://u:" + long(1025) + "@h/d":                "password: 1025 bytes is too long; at most 1024 are allowed",
		"postgres://" + long(64) + ":S3cret@h/d":             "user: 64 bytes is too long; at most 63 are allowed",
		"postgres://u:S3cret@h/" + long(64):                  "database: 64 bytes is too long; at most 63 are allowed",
		"postgres://u:S3cret@" + long(254) + "/d":            "host: 254 bytes is too long; at most 253 are allowed",
		"postgres://u:S3cret@h/d?sslrootcert=" + long(64):    "sslrootcert: give the name of a certificate in Headgate's store (letters, digits, . _ -), not a path",
		"postgres://u:S3cret@h/d?" + long(64) + "=1":         "an option that is not known follows the password or has no plain name; a password that holds special characters is quoted (password='…') or, in a URL, percent-encoded",
		"postgres://u:S3cret@h:1" + long(90) + "/d?sslmode=": "port: the value given is not 1–65535",
	} {
		_, err := Parse(dsn)
		require.EqualError(t, err, want)
	}
}

func TestParseReadsNoEnvironment(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLROOTCERT", "PGOPTIONS", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT"} {
		t.Setenv(name, "1")
	}
	_, err := Parse("postgres://u@host/db")
	require.EqualError(t, err, "password missing")

	got, err := Parse("postgres://u:secret@host/db")
	require.NoError(t, err)
	require.Equal(t, Address{Host: "host", Port: 5432, Database: "db", User: "u", Password: NewSecret("secret")}, got)
}
