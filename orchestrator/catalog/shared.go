package catalog

import (
	"sync"

	"github.com/google/uuid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// places shares one place among the tenants of a database: what is remembered of
// a tenant would else hold its own copy of the address and the server's rules. It
// may forget at any time, which costs the next answers a copy.
type places struct {
	mu    sync.Mutex
	known map[placeVersion]*address.Place
}

// placeVersion is one login of a database, as its row and its server's were.
type placeVersion struct {
	database             uuid.UUID
	login                jobs.Login
	ofDatabase, ofServer uint32 // xmin
}

// maxPlaces bounds them.
const maxPlaces = 4096

// of returns the place of that version, which nobody changes.
func (p *places) of(v placeVersion, make func() address.Place) *address.Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared := p.known[v]; shared != nil {
		return shared
	}
	if p.known == nil || len(p.known) >= maxPlaces {
		p.known = map[placeVersion]*address.Place{}
	}
	place := make()
	p.known[v] = &place
	return &place
}
