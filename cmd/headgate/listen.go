package main

import (
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/catalog"
)

// listenVariable names the central database's direct address, for one whose
// DATABASE_URL goes through a pooler.
const listenVariable = "HEADGATE_LISTEN_URL"

// listen starts what makes the catalog forget what has changed, unless the
// environment says none, and returns what stops it.
func (p *program) listen(c *catalog.Catalog) (stop func(), err error) {
	text, from, err := p.secretFromEnv(listenVariable)
	if err != nil || text == "none" {
		return func() {}, err
	}
	var direct *pgx.ConnConfig // nil: as the pool connects
	if text != "" {
		cfg, err := p.configOf(text, from)
		if err != nil {
			return nil, err
		}
		direct = cfg.ConnConfig
	}
	listener := catalog.NewListener(c, catalog.ListenerConfig{Conn: direct, Logger: p.log})
	listener.Start()
	return listener.Stop, nil
}
