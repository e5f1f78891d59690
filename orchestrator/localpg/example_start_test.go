//go:build unix

package localpg_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/localpg"
)

func ExampleStart() {
	ctx := context.Background()
	server, err := localpg.Start(ctx, localpg.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Stop() }()

	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	var sum int
	err = conn.QueryRow(ctx, "SELECT 1 + 1").Scan(&sum)
	fmt.Println(sum, err)
	// Output: 2 <nil>
}
