package doctor

import (
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// The states of a finding.
const (
	StateOK   = "ok"
	StateWarn = "warn"
	StateFail = "fail"
)

// Finding is one thing that was looked at. It is the shape of `doctor -o json`.
type Finding struct {
	On    string `json:"on"` // central, keys, server NAME, database NAME
	Check string `json:"check"`
	State string `json:"state"` // ok, warn or fail
	Says  string `json:"says"`
	Next  string `json:"next,omitempty"`
}

var findingColumns = []cli.Column[Finding]{
	{Name: "on", Of: func(f Finding) any { return f.On }},
	{Name: "check", Of: func(f Finding) any { return f.Check }},
	{Name: "state", Of: func(f Finding) any { return f.State }},
	{Name: "says", Of: func(f Finding) any { return f.Says }},
	{Name: "next", Of: func(f Finding) any { return f.Next }},
}

// findings prints what doctor found under the things it was found of: what is well in one
// line, unless all is wanted, and what is not with what to do.
func findings(app *cli.App, all []Finding, inFull bool) error {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].On == all[0].On {
			n++
		}
		if err := findingsOf(app, all[:n], inFull); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func findingsOf(app *cli.App, list []Finding, inFull bool) error {
	if err := app.Print("%s", app.Cell(list[0].On)); err != nil {
		return err
	}
	var well []string
	for _, f := range list {
		if f.State == StateOK {
			well = append(well, f.Check)
		}
	}
	if len(well) > 0 && !inFull {
		if err := app.Paragraph("  ok    ", strings.Join(well, ", ")); err != nil {
			return err
		}
	}
	for _, f := range list {
		if f.State == StateOK && !inFull {
			continue
		}
		if err := app.Paragraph("  "+f.State+strings.Repeat(" ", 6-len(f.State)), f.Check+": "+f.Says); err != nil {
			return err
		}
		if f.Next == "" {
			continue
		}
		if err := app.Paragraph("        next: ", f.Next); err != nil {
			return err
		}
	}
	return nil
}
