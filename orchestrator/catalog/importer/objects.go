package importer

import (
	"context"

	"github.com/headgate/headgate/jobs"
)

// Objects are an input whose rows are objects of JSON, as to_jsonb makes them.
type Objects struct {
	Name    string   // what errors call the input: query, table
	Columns []string // all of them, known before there is a row

	// Each reads the rows and calls do with each. The text is do's until do returns. It ends
	// with the first error, do's included.
	Each func(ctx context.Context, do func(text []byte) error) error
}

// ReadObjects reads objects to the end. The lines of a *RowsError are numbers of rows, from 1.
func ReadObjects(ctx context.Context, in Objects, opts ReadOptions) (*Table, error) {
	b := newBuilder(opts)
	keys := objectKeys{builder: b, byName: map[string]column{}}
	if err := keys.take(in); err != nil {
		return nil, err
	}
	line, size := 0, int64(0)
	err := in.Each(ctx, func(text []byte) error {
		line++
		if err := b.full(); err != nil {
			return err
		}
		if size += int64(len(text)); size > b.opts.MaxBytes {
			return tooLong(b.opts.MaxBytes)
		}
		return keys.add(line, text)
	})
	if err != nil {
		return nil, err
	}
	return b.end()
}

// take takes the columns before there is a row.
func (k *objectKeys) take(in Objects) error {
	if !named(in.Columns) {
		return jobs.Inputf(in.Name, "", "no column of it (%d) is slug, org_id, org_key or subdomains: name them with AS", len(in.Columns))
	}
	for _, name := range in.Columns {
		c, err := k.columns.add(name)
		if err != nil {
			return jobs.Inputf(in.Name, "", "%v", err)
		}
		k.byName[name] = c
	}
	return nil
}
