package address

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// foreign are options of libpq, pgx and pgxpool that Parse refuses. The list
// decides nothing; it lets an error name the option even where an unknown word
// could be a piece of a password.
var foreign = []string{
	"hostaddr", "passfile", "service", "servicefile", "require_auth", "channel_binding", "options", "role",
	"application_name", "fallback_application_name", "client_encoding", "timezone", "datestyle", "search_path",
	"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
	"sslkey", "sslcert", "sslpassword", "sslcrl", "sslcrldir", "sslsni", "sslcompression", "sslcertmode",
	"sslnegotiation", "sslkeylogfile", "ssl_min_protocol_version", "ssl_max_protocol_version", "requiressl",
	"min_protocol_version", "max_protocol_version", "requirepeer", "gssencmode", "gsslib", "gssdelegation",
	"krbsrvname", "krbspn", "replication", "load_balance_hosts", "scram_client_key", "scram_server_key",
	"oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
	"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_read_only",
	"default_query_exec_mode", "statement_cache_capacity", "statement_cache_mode", "description_cache_capacity",
	"pgbouncer", "connection_limit", "pool_timeout", "schema", "supa",
	"prefer_simple_protocol", "pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime",
	"pool_max_conn_lifetime_jitter", "pool_max_conn_idle_time", "pool_health_check_period", "pool_ping_timeout",
}

// deletable are options that providers' own connection strings have, and why nothing
// is lost without them.
var deletable = map[string]string{
	"channel_binding":  "sslmode=verify-full checks the server by its certificate",
	"pgbouncer":        "what stands before the server is said once, with headgate server set NAME --pooler transaction",
	"connection_limit": "the number of connections belongs to the server's budget",
	"pool_timeout":     "how long jobs wait belongs to the server's budget",
	"schema":           "a job's SQL names schemas, or its login has a search_path",
	"supa":             "it has no meaning for Postgres",
}

func isForeign(option string) bool { return slices.Contains(foreign, strings.ToLower(option)) }

// refuse names an option that is not allowed and says where its setting belongs.
func (p *parser) refuse(option string) error {
	if !isForeign(option) && (p.quiet || !isWord(option)) {
		return errors.New("an option that is not known follows the password or has no plain name; " +
			"a password that holds special characters is quoted (password='…') or, in a URL, percent-encoded")
	}
	if why := deletable[option]; why != "" {
		return fmt.Errorf("option %q is not allowed: delete it from the connection string; %s", option, why)
	}
	if strings.HasPrefix(option, "pool_") {
		return fmt.Errorf("option %q is not allowed: the number of connections belongs to the server's budget", option)
	}
	return fmt.Errorf("option %q is not allowed; allowed are %s", option, strings.Join(options, ", "))
}

// isWord says whether option looks like the name of an option at all.
func isWord(option string) bool {
	if option == "" || len(option) > maxName {
		return false
	}
	return !strings.ContainsFunc(option, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.'
	})
}
