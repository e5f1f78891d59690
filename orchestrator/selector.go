package orchestrator

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
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
			return nil, fmt.Errorf("selector %q: write FIELD=VALUE, as in plan=pro or label.tier=gold; all tenants are all", cut(text))
		case !slices.Contains(selectorFields, field):
			return nil, fmt.Errorf("selector %q: unknown field %q: give one of tenant, plan, status, region, label.KEY, feature.KEY", cut(text), cut(field))
		case needsKey && !selectorKey.MatchString(key):
			return nil, fmt.Errorf("selector %q: which %s? write %s.KEY=VALUE", cut(text), field, field)
		case keyed && !needsKey:
			return nil, fmt.Errorf("selector %q: %s has no parts; write %s=VALUE", cut(text), field, field)
		case len(value) > 200:
			return nil, fmt.Errorf("selector %q: the value is longer than 200 bytes", cut(text))
		}
		t := Term{Field: field, Key: key, Value: value}
		if slices.ContainsFunc(s, func(o Term) bool { return o.Field == t.Field && o.Key == t.Key }) {
			return nil, fmt.Errorf("selector %q: %s is given twice; no tenant equals both", cut(text), name)
		}
		s = append(s, t)
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("selector: give terms such as plan=pro, or all")
	}
	slices.SortFunc(s, func(a, b Term) int { return strings.Compare(a.String(), b.String()) })
	return s, nil
}
