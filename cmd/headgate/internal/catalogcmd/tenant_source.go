package catalogcmd

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// sourceFlags say where a table of tenants is read.
type sourceFlags struct {
	format       string
	ignore       []string
	urlFile      string
	queryFile    string
	queryTimeout time.Duration
}

func (s *sourceFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.format, "format", "", "csv or jsonl (default: by the file's name, else csv)")
	flags.StringSliceVar(&s.ignore, "ignore-columns", nil, "columns of the input that are left out, as it names them")
	flags.StringVar(&s.queryFile, "query-file", "", "a file with a SELECT on your own database, instead of FILE")
	flags.StringVar(&s.urlFile, "source-url-file", "", "a file with the address of that database (or HEADGATE_SOURCE_URL); it is read once and kept nowhere")
	cli.DurationVar(flags, &s.queryTimeout, "source-timeout", time.Minute, "how long one statement on that database may take")
	cli.Complete(cmd, "format", formats)
}

var formats = []string{importer.CSV, importer.JSONLines}

// query reports that the table is that of a query.
func (s *sourceFlags) query() bool { return s.queryFile != "" || s.urlFile != "" }

func (s *sourceFlags) read(ctx context.Context, app *cli.App, args []string) (*importer.Table, error) {
	opts := importer.ReadOptions{Ignore: s.ignore}
	if s.query() {
		return s.readQuery(ctx, app, opts)
	}
	file := args[0]
	format, err := s.formatOf(file)
	if err != nil {
		return nil, err
	}
	parse := importer.ReadCSV
	if format == importer.JSONLines {
		parse = importer.ReadJSONLines
	}
	if file == "-" {
		return fromStdin(ctx, app, func() (*importer.Table, error) { return parse(app.Stdin, opts) })
	}
	in, err := os.Open(file) //nolint:gosec // the user names a file of his own
	if err != nil {
		return nil, cli.Usagef("the file %s cannot be read: %w", cli.Quote(file), cli.Cause(err))
	}
	defer func() { _ = in.Close() }() // only read
	return parse(in, opts)
}

// fromStdin reads a table from a standard input that may never end.
func fromStdin(ctx context.Context, app *cli.App, parse func() (*importer.Table, error)) (table *importer.Table, err error) {
	read := make(chan *importer.Table, 1)
	_, err = app.Read(ctx, "FILE", "-", func(string) ([]byte, error) {
		table, err := parse()
		read <- table
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return <-read, nil
}

func (s *sourceFlags) formatOf(file string) (string, error) {
	if s.format != "" {
		return s.format, cli.OneOf("--format", s.format, formats)
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".jsonl", ".ndjson", ".json":
		return importer.JSONLines, nil
	}
	return importer.CSV, nil
}

// maxQuery bounds the text of a query.
const maxQuery = 1 << 20

func (s *sourceFlags) readQuery(ctx context.Context, app *cli.App, opts importer.ReadOptions) (*importer.Table, error) {
	if s.queryFile == "" {
		return nil, cli.Usagef("--query-file is missing: a file with a SELECT whose columns are named as those of an import")
	}
	query, err := app.Read(ctx, "--query-file", s.queryFile, func(flag string) ([]byte, error) { return readText(flag, app.Stdin) })
	if err != nil {
		return nil, err
	}
	conn, err := app.SourceConn(ctx, "--source-url-file", s.urlFile, "HEADGATE_SOURCE_URL")
	if err != nil {
		return nil, err
	}
	defer cli.CloseConn(ctx, conn)
	return importer.ReadQuery(ctx, conn, string(query), importer.QueryOptions{ReadOptions: opts, Timeout: s.queryTimeout})
}

func readText(flag string, r io.Reader) ([]byte, error) { return cli.ReadUpTo(flag, r, maxQuery) }
