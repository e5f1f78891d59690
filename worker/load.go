package worker

import (
	"encoding/json"

	"github.com/headgate/headgate/worker/tenantdb"
)

// maxLoads bounds what a heartbeat carries: some forty bytes a server.
const maxLoads = 100

// load is what the heartbeat says of one server.
type load struct {
	Open    int    `json:"open,omitempty"`
	Waiting int    `json:"waiting,omitempty"`
	Breaker string `json:"breaker,omitempty"` // "" is closed
}

// serverLoad is called with each heartbeat.
func (w *Worker) serverLoad() []byte { return loadOf(w.pools.Servers()) }

// loadOf leaves out the servers of which there is nothing to say, and those
// beyond maxLoads, the ones that are well first.
func loadOf(servers []tenantdb.Server) []byte {
	said := map[string]load{}
	for _, troubled := range []bool{true, false} {
		for _, s := range servers {
			l := load{Open: s.Open, Waiting: s.Waiting}
			if s.Breaker != "closed" {
				l.Breaker = s.Breaker
			}
			if len(said) < maxLoads && l != (load{}) && (l.Breaker != "" || l.Waiting > 0) == troubled {
				said[s.ID] = l
			}
		}
	}
	text, err := json.Marshal(said)
	if err != nil {
		return []byte("{}") // cannot happen: strings and numbers
	}
	return text
}
