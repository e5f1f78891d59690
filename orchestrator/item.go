package orchestrator

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// item is one job, checked and ready for its row.
type item struct {
	kind        string
	args        []byte // JSON
	meta        jobs.Meta
	runAt       time.Time // zero: now
	priority    int
	queue       string
	tags        []string
	maxAttempts int
}

// Limits of one job.
const (
	MaxArgs  = 256 << 10 // bytes of JSON
	maxTags  = 16
	horizon  = 10 * 365 * 24 * time.Hour
	pastSlop = time.Minute // clocks differ
)

var (
	kindName  = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,127}$`)
	queueName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	tagName   = regexp.MustCompile(`^\w[\w-]{1,62}\w$`) // what River takes
)

// prepare checks every item and asks the catalog once for all their tenants.
// Nothing is written.
func (c *Client) prepare(ctx context.Context, tx pgx.Tx, params []EnqueueParams) ([]item, error) {
	items := make([]item, len(params))
	for i, p := range params {
		var err error
		if items[i], err = newItem(ctx, p); err != nil {
			return nil, atIndex(err, i, len(params))
		}
	}
	tenants, err := c.tenantsOf(ctx, tx, items)
	if err != nil {
		return nil, err
	}
	databases := map[string]string{}
	for i := range items {
		if err := c.place(ctx, tx, &items[i].meta, tenants, databases); err != nil {
			return nil, atIndex(err, i, len(params))
		}
	}
	return items, nil
}

func atIndex(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("item %d: %w", i, err)
}

// tenantsOf looks all named tenants up in one query.
func (c *Client) tenantsOf(ctx context.Context, tx pgx.Tx, items []item) (map[string]catalog.Tenant, error) {
	var names []string
	seen := map[string]bool{}
	for _, it := range items {
		if name := it.meta.Tenant; name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return c.catalog.TenantsByNameTx(ctx, tx, names)
}

// place turns the names that the caller used into the catalog's ids.
func (c *Client) place(ctx context.Context, tx pgx.Tx, meta *jobs.Meta, tenants map[string]catalog.Tenant, databases map[string]string) error {
	if meta.Database != "" {
		id, ok := databases[meta.Database]
		if !ok {
			var err error
			if id, err = c.catalog.DatabaseIDTx(ctx, tx, meta.Database); err != nil {
				return err
			}
			databases[meta.Database] = id
		}
		meta.Database = id
		return nil
	}
	tenant := tenants[meta.Tenant]
	switch tenant.Status {
	case catalog.Active, catalog.Moving:
		meta.Tenant = tenant.ID
		return nil
	default:
		return fmt.Errorf("%w: tenant %q is %s and takes no work; `headgate tenant list` shows it", jobs.ErrTenantSuspended, tenant.Slug, tenant.Status)
	}
}

// newItem checks one job. The tenant's or database's name stands in its meta
// until place puts the id there.
func newItem(ctx context.Context, p EnqueueParams) (item, error) {
	if p.Args == nil {
		return item{}, errors.New("args are missing: give a value of the kind's struct")
	}
	if p.Opts == nil {
		p.Opts = &EnqueueOpts{}
	}
	args, err := encodeArgs(p.Args)
	if err != nil {
		return item{}, err
	}
	kindOpts := jobs.KindOptsOf(p.Args)
	it := item{
		kind: p.Args.Kind(), args: args, runAt: p.Opts.RunAt, tags: p.Opts.Tags,
		priority:    cmp.Or(p.Opts.Priority, kindOpts.Priority, 1),
		queue:       cmp.Or(p.Opts.Queue, kindOpts.Queue, "default"),
		maxAttempts: cmp.Or(p.Opts.MaxAttempts, kindOpts.MaxAttempts, 25),
		meta: jobs.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), TimeoutMS: p.Opts.Timeout.Milliseconds(),
			TraceParent: cmp.Or(jobs.TraceParentFrom(ctx), newTraceParent()),
		},
	}
	if err := it.check(p.Opts, time.Now()); err != nil {
		return item{}, err
	}
	return it, it.name(ctx, p, kindOpts.Scope)
}

// name notes whom the job is for, as the kind's scope asks.
func (it *item) name(ctx context.Context, p EnqueueParams, scope jobs.Scope) (err error) {
	switch {
	case scope == jobs.ScopeDatabase && p.Tenant != "":
		return fmt.Errorf("kind %s works on a whole database: give a database (EnqueueDatabase), not tenant %q", it.kind, p.Tenant)
	case scope == jobs.ScopeDatabase && p.Database == "":
		return fmt.Errorf("kind %s works on a whole database: give its name (EnqueueDatabase)", it.kind)
	case scope == jobs.ScopeTenant && p.Database != "":
		return fmt.Errorf("kind %s works for one tenant: give a tenant (Enqueue), not database %q", it.kind, p.Database)
	case scope == jobs.ScopeDatabase:
		it.meta.Database = p.Database
		return nil
	}
	if it.meta.Tenant = p.Tenant; it.meta.Tenant == "" {
		it.meta.Tenant, err = jobs.TenantFrom(ctx)
	}
	return err
}

// check says which field is wrong, and what is allowed.
func (it *item) check(opts *EnqueueOpts, now time.Time) error {
	switch {
	case !kindName.MatchString(it.kind):
		return fmt.Errorf("kind %q: a kind's name is 1 to 127 letters, digits, dots, dashes or underscores", cut(it.kind))
	case it.priority < 1 || it.priority > 4:
		return fmt.Errorf("priority is %d: give 1 (first) to 4", it.priority)
	case !queueName.MatchString(it.queue):
		return fmt.Errorf("queue %q: a queue's name is 1 to 64 lower-case letters, digits, dashes or underscores", cut(it.queue))
	case it.maxAttempts < 1 || it.maxAttempts > 1000:
		return fmt.Errorf("max attempts is %d: give 1 to 1000", it.maxAttempts)
	case opts.Timeout != 0 && (opts.Timeout < time.Second || opts.Timeout > 24*time.Hour):
		return fmt.Errorf("timeout is %s: give 1s to 24h", opts.Timeout)
	case len(it.tags) > maxTags:
		return fmt.Errorf("%d tags: at most %d", len(it.tags), maxTags)
	}
	for _, tag := range it.tags {
		if !tagName.MatchString(tag) {
			return fmt.Errorf("tag %q: a tag is 3 to 64 letters, digits, dashes or underscores, no dash first or last", cut(tag))
		}
	}
	return checkRunAt(opts, now)
}

func checkRunAt(opts *EnqueueOpts, now time.Time) error {
	at := opts.RunAt
	switch {
	case at.IsZero():
		return nil
	case at.After(now.Add(horizon)):
		return fmt.Errorf("run at %s is too far ahead: at most ten years", at.UTC().Format(time.RFC3339))
	case at.Before(now.Add(-pastSlop)) && !opts.AllowPast:
		return fmt.Errorf("run at %s is past: leave it out to run now, or allow the past", at.UTC().Format(time.RFC3339))
	case at.Year() < 2000:
		return fmt.Errorf("run at %s is not a time that anybody means: give one after 2000", at.UTC().Format(time.RFC3339))
	}
	return nil
}

func encodeArgs(args jobs.Args) ([]byte, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("args of kind %s do not encode as JSON: %w", args.Kind(), err)
	}
	switch {
	case len(raw) > MaxArgs:
		return nil, fmt.Errorf("args are %d bytes of JSON: at most %d; keep the document elsewhere and pass its name", len(raw), MaxArgs)
	case len(raw) == 0 || raw[0] != '{':
		return nil, fmt.Errorf("args of kind %s encode as %s: they must be a JSON object", args.Kind(), jsonType(raw))
	case hasNUL(raw):
		return nil, errors.New(`args hold the character U+0000, which Postgres cannot store: remove it`)
	}
	return raw, nil
}

// hasNUL reports whether JSON text holds an escaped NUL: \u0000 behind an even
// number of backslashes.
func hasNUL(raw []byte) bool {
	for rest := raw; ; {
		i := bytes.Index(rest, []byte(`\u0000`))
		if i < 0 {
			return false
		}
		before := len(rest[:i]) - len(bytes.TrimRight(rest[:i], `\`))
		if before%2 == 0 {
			return true
		}
		rest = rest[i+1:]
	}
}

func jsonType(raw []byte) string {
	switch {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '[':
		return "an array"
	case raw[0] == '"':
		return "a string"
	default:
		return "a bare value"
	}
}

// cut bounds what an error repeats of a bad value.
func cut(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// newTraceParent begins a W3C trace, sampled.
func newTraceParent() string {
	var id [24]byte
	_, _ = rand.Read(id[:]) // never fails
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-01"
}
