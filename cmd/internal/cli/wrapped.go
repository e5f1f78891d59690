package cli

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
)

// The templates' functions are a map of cobra's, which nobody may write while another reads.
func init() {
	cobra.AddTemplateFunc("wrappedUse", func(line string) string { return wrapped(line, lineWidth-2, 4) })
	cobra.AddTemplateFunc("wrappedText", wrappedText)
}

// wrapped breaks a line between words; its further lines are indented.
func wrapped(line string, width, indent int) string {
	lines := strings.Split(text.WrapSoft(line, width-indent), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", indent))
}

// listed is a line of a list: its words begin behind a name and two spaces.
var listed = regexp.MustCompile(`^ +\S+ {2,}`)

// wrappedText breaks the lines of a command's long text. A paragraph with a line that does not
// fit is filled anew, and of a list each line by itself.
func wrappedText(long string) string {
	paragraphs := strings.Split(long, "\n\n")
	for i, p := range paragraphs {
		lines, fits, list := strings.Split(p, "\n"), true, false
		for _, line := range lines {
			fits, list = fits && utf8.RuneCountInString(line) <= lineWidth, list || strings.HasPrefix(line, " ")
		}
		switch {
		case fits:
		case !list:
			paragraphs[i] = wrapped(strings.Join(lines, " "), lineWidth, 0)
		default:
			for n, line := range lines {
				if utf8.RuneCountInString(line) > lineWidth {
					name := listed.FindString(line)
					lines[n] = name + wrapped(line[len(name):], lineWidth, len(name))
				}
			}
			paragraphs[i] = strings.Join(lines, "\n")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}
