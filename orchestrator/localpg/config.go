package localpg

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Config says how a private server runs. The zero value is a temporary server
// on a unix socket.
type Config struct {
	// Dir keeps the data. It must be empty, new, or one that an earlier server
	// kept its data in; one server at a time holds it. The data is made with
	// the first use, and later needs binaries of the same major version. As
	// root an empty Dir is given to the account that Postgres runs as.
	// "" means a temporary directory, removed by Stop or by a later Start.
	Dir string

	// Durable keeps the server's own fsync and full_page_writes. Without it an
	// acknowledged row survives the server's death but not the machine's.
	// Always true when Dir is set.
	Durable bool

	// Memory keeps a temporary server's data in memory, where this machine has a
	// file system for that with some gigabytes free, and else on disk as ever. Making a
	// database then takes 25 ms instead of 150. Not with Dir or Durable.
	Memory bool

	// TCP also listens on a free port of 127.0.0.1. Default: unix socket only.
	TCP bool

	// MaxConnections bounds the server's connections. 0 means 300.
	MaxConnections int

	// Major is the wanted major version of Postgres, "14" to "18". "" means that of
	// the data in Dir, or else the first that is found. Data wins over it.
	Major string

	// NoFetch refuses to fetch or install binaries when the machine has none.
	// The environment variable HEADGATE_NO_FETCH=1 does the same.
	NoFetch bool

	// Settings are further server settings, by name. They win over this
	// package's own, except those that say where the server is found.
	Settings map[string]string

	// Notify is told, in one sentence and before it happens, what is fetched,
	// from what, and to where. nil means a line on standard error.
	Notify func(string)

	// StartTimeout bounds making the cluster and waiting until it answers; not
	// the fetching of binaries. 0 means 30 s.
	StartTimeout time.Duration
}

// majors are the major versions of Postgres that may be asked for.
var majors = []string{"14", "15", "16", "17", "18"}

// ownSettings decide where clients find the server and are not for Settings.
var ownSettings = []string{"data_directory", "listen_addresses", "port", "unix_socket_directories"}

func (cfg Config) withDefaults() (Config, error) {
	cfg.Durable = cfg.Durable || cfg.Dir != ""
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 300)
	cfg.StartTimeout = cmp.Or(cfg.StartTimeout, 30*time.Second)
	cfg.NoFetch = cfg.NoFetch || os.Getenv("HEADGATE_NO_FETCH") == "1"
	if cfg.Notify == nil {
		cfg.Notify = func(sentence string) { fmt.Fprintln(os.Stderr, "headgate: "+sentence) }
	}
	return cfg, cfg.validate()
}

func (cfg Config) validate() error {
	if cfg.MaxConnections < 0 {
		return fmt.Errorf("localpg: MaxConnections is %d: it may not be negative", cfg.MaxConnections)
	}
	if cfg.Memory && cfg.Durable {
		return errors.New("localpg: Memory is set, and so is Dir or Durable: what is in memory does not last, so leave out one of them")
	}
	if cfg.Major != "" && !slices.Contains(majors, cfg.Major) {
		return fmt.Errorf("localpg: Major is %q: want one of %s", cfg.Major, strings.Join(majors, ", "))
	}
	if cfg.StartTimeout < 0 {
		return fmt.Errorf("localpg: StartTimeout is %s: it may not be negative", cfg.StartTimeout)
	}
	for name := range cfg.Settings {
		if slices.Contains(ownSettings, strings.ToLower(name)) {
			return fmt.Errorf("localpg: the setting %q is chosen by this package: leave it out, use Dir or TCP", name)
		}
		if name == "" || strings.ContainsAny(name, "= ") {
			return fmt.Errorf("localpg: %q is no name of a server setting", name)
		}
	}
	return nil
}
