package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	central := must(pgxpool.New(ctx, os.Getenv("DATABASE_URL")))
	w := must(worker.New(worker.Config{Pool: central, Resolver: must(catalog.Open(ctx, central))}))
	worker.InTx(w, welcome)
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
