package cli

import "github.com/headgate/headgate/jobs"

// pageSize is how many rows one query of a whole list asks for.
const pageSize = 1000

// All reads a list page by page, to its end.
func All[T any](read func(page jobs.Page) ([]T, string, error)) (all []T, err error) {
	for page := (jobs.Page{Limit: pageSize}); ; {
		items, next, err := read(page)
		if err != nil {
			return nil, err
		}
		if all = append(all, items...); next == "" {
			return all, nil
		}
		page.After = next
	}
}

// More says how to go on with a list that is longer, if it is.
func More(app *App, next string) {
	if next != "" {
		app.Say("there is more: add --after %s", next)
	}
}
