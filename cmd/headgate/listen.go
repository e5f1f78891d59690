package main

import (
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/catalog"
)

// listen starts what makes the catalog forget what has changed, and returns what
// stops it. Behind a pooler without a way past it there is nothing to listen on:
// then what is remembered is soon too old instead.
func (p *program) listen(c *catalog.Catalog) (stop func(), err error) {
	cfg, err := p.directConfig()
	if err != nil || cfg == nil && p.pooled() {
		return func() {}, err
	}
	var direct *pgx.ConnConfig // nil: as the pool connects
	if cfg != nil {
		direct = cfg.ConnConfig
	}
	listener := catalog.NewListener(c, catalog.ListenerConfig{Conn: direct, Logger: p.log})
	listener.Start()
	return listener.Stop, nil
}
