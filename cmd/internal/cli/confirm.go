package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// ManyTenants is how many a command may change without being told the number.
const ManyTenants = 50

// Confirmation is the flags of a command that may change many tenants at once.
type Confirmation struct {
	Noun string // what is counted; "" means tenant

	tenants *int // nil: not given
	yes     bool
	shown   []string // of whom the number was asked for
}

func (c *Confirmation) noun() string { return cmp.Or(c.Noun, "tenant") }

// Flags adds --confirm and --yes.
func (c *Confirmation) Flags(cmd *cobra.Command) {
	cmd.Flags().Var(number{&c.tenants}, "confirm", fmt.Sprintf("how many %ss this changes, where they are more than %d", c.noun(), ManyTenants))
	cmd.Flags().BoolVar(&c.yes, "yes", false, "however many they are")
}

// number is a whole number that may be 0, and is not there unless given.
type number struct{ into **int }

// String is called by the flags' package.
func (v number) String() string {
	if v.into == nil || *v.into == nil {
		return ""
	}
	return strconv.Itoa(**v.into)
}

// Set is called by the flags' package.
func (v number) Set(text string) error {
	n := new(int)
	if err := (wholeValue[int]{n}).Set(text); err != nil {
		return err
	}
	*v.into = n
	return nil
}

// Type is called by the flags' package.
func (v number) Type() string { return wholeValue[int]{}.Type() }

// unconfirmed is the number that was not given.
type unconfirmed struct {
	what    string // "plan = pro matches"
	noun    string
	tenants int
	given   *int // nil: none
}

func (e *unconfirmed) Error() string {
	if e.given != nil {
		return fmt.Sprintf("%s %s, not the %s of --confirm; look again, and pass --confirm %d (nothing was changed)", e.what, jobs.Count(e.tenants, e.noun), jobs.Thousands(*e.given), e.tenants)
	}
	return fmt.Sprintf("%s %s; pass --confirm %d (nothing was changed)", e.what, jobs.Count(e.tenants, e.noun), e.tenants)
}

// Check is what the client asks before it commits. The number must be right also
// where it need not be given.
func (c *Confirmation) Check(what string) func(tenants int) error {
	return func(tenants int) error {
		if c.yes || c.tenants != nil && *c.tenants == tenants || c.tenants == nil && tenants <= ManyTenants {
			return nil
		}
		return &unconfirmed{what: what, noun: c.noun(), tenants: tenants, given: c.tenants}
	}
}

// CheckNames is Check of the tenants themselves. The number that somebody types is the answer
// to what was shown: when others are as many by then, nothing is changed.
func (c *Confirmation) CheckNames(what string) func(names []string) error {
	check := c.Check(what)
	return func(names []string) error {
		if c.shown != nil && len(c.shown) == len(names) && !slices.Equal(c.shown, names) {
			return fmt.Errorf("%w: %s others now, as many as before; nothing was changed: look again", catalog.ErrChanged, what)
		}
		c.shown = names
		return check(len(names))
	}
}

// Expect counts what a change would touch, and returns the number if that needs no
// confirming or is the one that was confirmed; nil after --yes, which takes any.
func (c *Confirmation) Expect(what string, count func() (int, error)) (*int, error) {
	if c.yes {
		return nil, nil //nolint:nilnil // no expectation
	}
	n, err := count()
	if err != nil {
		return nil, err
	}
	return &n, c.Check(what)(n)
}

// Do does what needs confirming; at a terminal it asks for the number that
// was not given, after everything is undone, and does it again.
func (c *Confirmation) Do(ctx context.Context, app *App, do func() error) error {
	err := do()
	var open *unconfirmed
	if !errors.As(err, &open) {
		return err
	}
	if _, terminal := app.terminal(); !terminal || open.given != nil {
		return &UsageError{open}
	}
	app.Say("%s %s. Type that number to go on:", open.what, jobs.Count(open.tenants, open.noun))
	line, err := app.Read(ctx, "--confirm", "-", func(string) ([]byte, error) {
		text, err := bufio.NewReader(app.Stdin).ReadString('\n')
		return []byte(text), err
	})
	if err != nil {
		return err
	}
	if given, ok := Whole(strings.ReplaceAll(strings.TrimSpace(string(line)), ",", "")); !ok || given != open.tenants {
		return Usagef("that is not %d; nothing was changed", open.tenants)
	}
	c.tenants = &open.tenants
	return do()
}
