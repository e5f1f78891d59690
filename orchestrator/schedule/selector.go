package schedule

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// Term is one equality of a selector: a tenant's plan, status, region or slug
// (field tenant), one of its labels, or one of its features.
type Term struct {
	Field string `json:"field"`
	Key   string `json:"key,omitempty"` // of label and feature
	Value string `json:"value"`
}

// String is the term as it is written: plan=pro, label.tier=gold.
func (t Term) String() string {
	if t.Key != "" {
		return t.Field + "." + t.Key + "=" + t.Value
	}
	return t.Field + "=" + t.Value
}

// check refuses what no tenant equals, because Postgres could not store it.
func (t Term) check() error {
	if text := t.String(); !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return jobs.Inputf("selector", text, "give a text of valid UTF-8, without NUL")
	}
	return nil
}

// Selector is a set of terms: a tenant is selected that equals all of them. The
// empty one selects all tenants. Which tenants that are says the database, in
// headgate.selected_tenants.
type Selector []Term

// String is "all", or the terms.
func (s Selector) String() string {
	if len(s) == 0 {
		return "all"
	}
	texts := make([]string, len(s))
	for i, t := range s {
		texts[i] = t.String()
	}
	return strings.Join(texts, " ")
}

var (
	selectorFields = []string{"tenant", "plan", "status", "region", "label", "feature"}
	selectorKey    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$`)
)

// ParseSelector reads terms such as plan=pro, status=active, region=eu,
// tenant=acme, label.tier=gold and feature.reports=true; "all" alone is every
// tenant.
func ParseSelector(terms []string) (Selector, error) {
	if len(terms) == 1 && terms[0] == "all" {
		return Selector{}, nil
	}
	var s Selector
	for _, text := range terms {
		name, value, ok := strings.Cut(text, "=")
		field, key, keyed := strings.Cut(name, ".")
		needsKey := field == "label" || field == "feature"
		switch {
		case !ok || value == "" || value == "*":
			return nil, jobs.Inputf("selector", text, "write FIELD=VALUE, as in plan=pro or label.tier=gold; all tenants are all")
		case !slices.Contains(selectorFields, field):
			return nil, jobs.Inputf("selector", text, "unknown field %q: give one of tenant, plan, status, region, label.KEY, feature.KEY", fit.Cut(field))
		case needsKey && !selectorKey.MatchString(key):
			return nil, jobs.Inputf("selector", text, "which %s? write %s.KEY=VALUE", field, field)
		case keyed && !needsKey:
			return nil, jobs.Inputf("selector", text, "%s has no parts; write %s=VALUE", field, field)
		case len(value) > 200:
			return nil, jobs.Inputf("selector", text, "the value is longer than 200 bytes: give a shorter one")
		}
		t := Term{Field: field, Key: key, Value: value}
		if err := t.check(); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(s, func(o Term) bool { return o.Field == t.Field && o.Key == t.Key }) {
			return nil, jobs.Inputf("selector", text, "%s is given twice; no tenant equals both", name)
		}
		s = append(s, t)
	}
	if len(s) == 0 {
		return nil, jobs.Inputf("selector", "", "give terms such as plan=pro, or all")
	}
	slices.SortFunc(s, func(a, b Term) int { return strings.Compare(a.String(), b.String()) })
	return s, nil
}
