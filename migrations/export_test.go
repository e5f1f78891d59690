package migrations

import (
	"context"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

// UpMore is Up with migrations of a test's own behind the program's: folder "more".
func UpMore(ctx context.Context, conn *pgx.Conn, opts *UpOpts, files fs.FS) ([]string, error) {
	more := load(files, "more")
	for i := range more {
		more[i].version += len(central)
	}
	return up(ctx, conn, opts, append(slices.Clone(central), more...))
}

// Parse reads one file of folder "more".
func Parse(files fs.FS, name string) error {
	_, err := parse(files, "more", name)
	return err
}
