package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Near adds to an error about a name that is not known the nearest one that is.
func Near(ctx context.Context, control *admission.Control, scope admission.Subject, name string, err error) error {
	if !errors.Is(err, jobs.ErrUnknownTenant) && !errors.Is(err, catalog.ErrUnknownServer) {
		return err
	}
	if catalog.IsRemoved(err) {
		return fmt.Errorf("%w; `headgate tenant list --status removed` shows those", err)
	}
	known, listErr := Names(ctx, control, scope)
	if listErr != nil {
		return err // the better of the two
	}
	return fmt.Errorf("%w%s; `headgate %s list` shows them", err, DidYouMean(Nearest(name, known, "")...), scope)
}

// Names are all names of a scope that are in use.
func Names(ctx context.Context, control *admission.Control, scope admission.Subject) ([]string, error) {
	return All(func(page jobs.Page) ([]string, string, error) { return control.Names(ctx, scope, page) })
}

// NearOwner is Near for the tenant or the database that a job or a schedule is for.
func NearOwner(ctx context.Context, central Central, tenant, database string, err error) error {
	switch {
	case database != "" && errors.Is(err, jobs.ErrUnknownDatabase):
		_, known := FindDatabase(ctx, central.Catalog, database)
		if errors.Is(known, jobs.ErrUnknownDatabase) { // not one of the listing
			return known
		}
	case tenant != "" && errors.Is(err, jobs.ErrUnknownTenant):
		return Near(ctx, central.Admission, admission.OfTenant, tenant, err)
	}
	return err
}

// FindServer returns the server of that name, or an error with the nearest name there is.
func FindServer(ctx context.Context, c *catalog.Catalog, name string) (catalog.Server, error) {
	servers, err := All(func(page jobs.Page) ([]catalog.Server, string, error) { return c.Servers(ctx, page) })
	if err != nil {
		return catalog.Server{}, err
	}
	var known []string
	for _, s := range servers {
		if s.Name == name {
			return s, nil
		}
		known = append(known, s.Name)
	}
	return catalog.Server{}, fmt.Errorf("%w %s%s; `headgate server list` shows them, `headgate server add` makes one",
		catalog.ErrUnknownServer, Quote(name), DidYouMean(Nearest(name, known, "")...))
}

// FindDatabase returns the database of that name or UUID, or an error with the nearest name
// there is.
func FindDatabase(ctx context.Context, c *catalog.Catalog, name string) (catalog.Database, error) {
	databases, err := All(func(page jobs.Page) ([]catalog.Database, string, error) { return c.Databases(ctx, page) })
	if err != nil {
		return catalog.Database{}, err
	}
	var known []string
	for _, d := range databases {
		if d.Name == name || strings.EqualFold(d.ID, name) {
			return d, nil
		}
		known = append(known, d.Name)
	}
	return catalog.Database{}, fmt.Errorf("%w %s%s; `headgate database list` shows them",
		jobs.ErrUnknownDatabase, Quote(name), DidYouMean(Nearest(name, known, "")...))
}
