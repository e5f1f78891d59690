package main

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// listen starts what makes the catalog forget what has changed, and returns what
// stops it. Behind a pooler without a way past it there is nothing to listen on:
// then what is remembered is soon too old instead.
func listen(ctx context.Context, app *cli.App, c *catalog.Catalog) (stop func(), err error) {
	cfg, err := app.DirectConfig()
	if err != nil || cfg == nil && app.Pooled() {
		return func() {}, err
	}
	var direct *pgx.ConnConfig // nil: as the pool connects
	if cfg != nil {
		direct = cfg.ConnConfig
	}
	listener := catalog.NewListener(c, catalog.ListenerConfig{Conn: direct, Logger: app.Log})
	if err := listener.Start(ctx); err != nil {
		return nil, err
	}
	return func() { _ = listener.Stop(context.WithoutCancel(ctx)) }, nil // which waits for it, and nothing in it fails
}
