package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/headgate/headgate/jobs"
)

const (
	// maxOrgID leaves room for org_brand_id = org_id*10000 + brand_id in a bigint.
	maxOrgID  = (1<<63-1)/10_000 - 1
	maxLabels = 64
	maxText   = 200 // characters of a name or a label's value
	maxPlan   = 63
)

var labelKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// TenantParams describe a new tenant.
type TenantParams struct {
	// Slug is its short unique name: [a-z][a-z0-9-]{0,62}, not a reserved word.
	Slug string

	// OrgID is its number in the org_id columns of shared tables. 0 means the
	// next free one, above all that were ever given out.
	OrgID int64

	// OrgKey is its value in the organisation columns of shared tables that are text or
	// uuid: up to 200 characters, without blanks around them, control characters and
	// vertical bars. "" means OrgID in digits. A UUID is stored in its canonical form.
	OrgKey string

	// Name is for people, up to 200 characters. "" means the slug.
	Name string

	// Plan is the pricing plan's name, up to 63 characters. It may be empty.
	Plan string

	// Timezone is an IANA Area/City name. "" means UTC.
	Timezone string

	// Labels are free, for selectors: up to 64, keys of letters, digits, _ . -
	// up to 63 long, values up to 200 characters.
	Labels map[string]string

	// Database is the name or UUID of the database where it will live. "" means the shared
	// one that has the fewest tenants, takes its plan, and has room.
	Database string
}

// newTenants checks the parameters and gives each tenant its id.
func newTenants(params []TenantParams) ([]Tenant, error) {
	tenants := make([]Tenant, len(params))
	slugs, orgIDs := make(map[string]bool, len(params)), map[int64]bool{}
	for i, p := range params {
		t, err := p.tenant()
		switch {
		case err != nil && len(params) > 1:
			return nil, fmt.Errorf("tenant %s (number %d): %w", shown(p.Slug), i+1, err)
		case err != nil:
			return nil, err
		case slugs[t.Slug]:
			return nil, jobs.Inputf("slug", t.Slug, "it is given twice: give each tenant its own")
		case t.OrgID != 0 && orgIDs[t.OrgID]:
			return nil, jobs.Inputf("org_id", fmt.Sprint(t.OrgID), "it is given twice: give each tenant its own, or none")
		}
		slugs[t.Slug], orgIDs[t.OrgID] = true, true
		tenants[i] = t
	}
	return tenants, nil
}

// tenant returns the new row, without placement.
func (p TenantParams) tenant() (Tenant, error) {
	if err := p.check(); err != nil {
		return Tenant{}, err
	}
	labels := maps.Clone(p.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	return Tenant{
		Tenant: jobs.Tenant{
			ID: newID().String(), Slug: p.Slug, OrgID: p.OrgID, OrgKey: canonicalKey(p.OrgKey), Name: cmp.Or(p.Name, p.Slug), Plan: p.Plan,
			Timezone: cmp.Or(p.Timezone, "UTC"), Labels: labels,
		},
	}, nil
}

func (p TenantParams) check() error {
	return cmp.Or(
		checkOrgID(p.OrgID),
		checkSlug(p.Slug),
		checkOrgKey(p.OrgKey),
		jobs.CheckText("name", p.Name, maxText),
		CheckPlan("plan", p.Plan),
		checkZone(cmp.Or(p.Timezone, "UTC")),
		checkLabels(p.Labels),
	)
}

// ParseOrgID reads the org_id of a new tenant: digits, 1 to 922337203685476, without sign or
// leading zero; "" is 0, the next free one. The error is a *jobs.InputError about field.
func ParseOrgID(field, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if n, ok := parseOrgID(text); ok && n <= maxOrgID {
		return n, nil
	}
	return 0, noOrgID(field, text)
}

func checkOrgID(n int64) error {
	if n < 0 || n > maxOrgID {
		return noOrgID("org_id", strconv.FormatInt(n, 10))
	}
	return nil
}

func noOrgID(field, text string) error {
	return jobs.Inputf(field, text, "give a whole number from 1 to %d in digits, or none for the next free one", int64(maxOrgID))
}

func checkOrgKey(key string) error {
	if err := jobs.CheckValue("org_key", key, maxText); err != nil {
		return err
	}
	if strings.TrimSpace(key) != key || strings.Contains(key, "|") {
		return jobs.Inputf("org_key", key, "blanks around it and vertical bars are not allowed")
	}
	return nil
}

var uuidDigits = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

// canonicalKey is a key in the one form that two equal keys have. Postgres takes a UUID with
// braces, in capitals and with hyphens elsewhere.
func canonicalKey(key string) string {
	if digits := strings.NewReplacer("{", "", "}", "", "-", "").Replace(key); uuidDigits.MatchString(digits) {
		return uuid.MustParse(digits).String()
	}
	return key
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return jobs.Inputf("labels", "", "%d labels is too many; at most %d are allowed", len(labels), maxLabels)
	}
	for key, value := range labels {
		if !labelKey.MatchString(key) {
			return jobs.Inputf("labels", key, "a key must have up to 63 letters, digits, _ . or -")
		}
		if err := jobs.CheckValue("labels."+key, value, maxText); err != nil {
			return err
		}
	}
	return nil
}
