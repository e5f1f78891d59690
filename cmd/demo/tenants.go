package main

import "strings"

// tenant is a customer of the demo's SaaS.
type tenant struct {
	slug, name string
	database   string // by its name in the catalog
	zone       string
	idle       bool  // has nothing to do during the demo
	orgID      int64 // given by the catalog
}

// The pricing plans.
const (
	freemium   = "freemium"
	enterprise = "enterprise"
)

// plan is the tenant's pricing plan: freemium tenants share databases, an
// enterprise tenant has one of its own.
func (t *tenant) plan() string {
	if strings.HasPrefix(t.database, freemium) {
		return freemium
	}
	return enterprise
}

// tenants are all of them, 29 in 11 databases.
func tenants() []*tenant {
	return []*tenant{
		{slug: "acorn", name: "Acorn Studio", database: "freemium-1", zone: "Europe/Paris"},
		{slug: "birch", name: "Birch & Daughters", database: "freemium-1", zone: "Europe/London"},
		{slug: "cedar", name: "Cedar Coworking", database: "freemium-1", zone: "America/Toronto"},
		{slug: "dune", name: "Dune Surf School", database: "freemium-1", zone: "Australia/Sydney"},
		{slug: "ember", name: "Ember Pottery", database: "freemium-1", zone: "Asia/Tokyo"},
		{slug: "fjord", name: "Fjord Ferries", database: "freemium-1", zone: "Europe/Oslo"},
		{slug: "glade", name: "Glade Yoga", database: "freemium-1", zone: "America/Denver"},
		{slug: "heron", name: "Heron Books", database: "freemium-1", zone: "Europe/Dublin"},
		{slug: "iris", name: "Iris Opticians", database: "freemium-1", zone: "Europe/Athens"},
		{slug: "juniper", name: "Juniper Bar", database: "freemium-1", zone: "Europe/Lisbon"},
		{slug: "kelp", name: "Kelp Kitchen", database: "freemium-2", zone: "Pacific/Auckland"},
		{slug: "lark", name: "Lark Music Lessons", database: "freemium-2", zone: "America/Chicago"},
		{slug: "maple", name: "Maple Bikes", database: "freemium-2", zone: "America/Halifax"},
		{slug: "nettle", name: "Nettle Gardens", database: "freemium-2", zone: "Europe/Prague"},
		{slug: "opal", name: "Opal Jewellers", database: "freemium-2", zone: "Asia/Singapore"},
		{slug: "pine", name: "Pine Joinery", database: "freemium-2", zone: "Europe/Helsinki"},
		{slug: "quartz", name: "Quartz Watches", database: "freemium-2", zone: "Europe/Zurich"},
		{slug: "reed", name: "Reed Baskets", database: "freemium-2", zone: "Africa/Nairobi"},
		{slug: "sage", name: "Sage Tutoring", database: "freemium-2", zone: "Asia/Kolkata"},
		{slug: "thistle", name: "Thistle Tours", database: "freemium-2", zone: "Europe/London"},

		{slug: "borealis", name: "Borealis Airways", database: "borealis", zone: "Europe/Stockholm"},
		{slug: "meridian", name: "Meridian Insurance", database: "meridian", zone: "America/New_York"},
		{slug: "solstice", name: "Solstice Energy", database: "solstice", zone: "America/Santiago"},
		{slug: "zenith", name: "Zenith Logistics", database: "zenith", zone: "Asia/Dubai"},

		{slug: "aphelion", name: "Aphelion Foods", database: "aphelion", zone: "Europe/Madrid", idle: true},
		{slug: "corona", name: "Corona Textiles", database: "corona", zone: "Asia/Seoul", idle: true},
		{slug: "eclipse", name: "Eclipse Hotels", database: "eclipse", zone: "Africa/Cairo", idle: true},
		{slug: "parallax", name: "Parallax Films", database: "parallax", zone: "America/Los_Angeles", idle: true},
		{slug: "umbra", name: "Umbra Lighting", database: "umbra", zone: "America/Sao_Paulo", idle: true},
	}
}
