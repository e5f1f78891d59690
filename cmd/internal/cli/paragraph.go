package cli

import (
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// Sentences make no table: each stands on lines of its own, and what belongs to a
// sentence stands below it. At a terminal lines end where words do. In a pipe a sentence
// is one line, so that grep finds all of it.

// width is the terminal's that stdout is, or 0.
func (app *App) width() int {
	out, ok := app.Stdout.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(out.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Paragraph prints text behind a label, and its further lines as far from the edge.
func (app *App) Paragraph(label, says string) error {
	says = printable(says)
	indent := strings.Repeat(" ", len(label))
	if width := app.width() - len(label); width >= 20 {
		says = strings.ReplaceAll(text.WrapSoft(says, width), "\n", "\n"+indent)
	}
	for line := range strings.SplitSeq(label+says, "\n") {
		if err := app.Print("%s", strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}
