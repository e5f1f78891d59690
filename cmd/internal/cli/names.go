package cli

import (
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headgate/headgate/orchestrator/explain"
)

const (
	// completeFor bounds all that a completion does, because somebody waits at a prompt.
	completeFor = time.Second

	// mostNames is how many a completion shows.
	mostNames = 50
)

// argNouns says which names an argument stands for by its word in the usage, and
// flagNouns a flag by its name. NAME goes by the command's group: see groupNouns.
var (
	argNouns = map[string]explain.Noun{
		"SLUG": explain.NounTenant, "TENANT": explain.NounTenant, "DATABASE": explain.NounDatabase, "SERVER": explain.NounServer, "SCHEDULE": explain.NounSchedule,
		"KIND": explain.NounKind, "QUEUE": explain.NounQueue, "PLAN": explain.NounPlan, "FEATURE": explain.NounFeature, "REGION": explain.NounRegion,
	}
	flagNouns = map[string]explain.Noun{
		"tenant": explain.NounTenant, "database": explain.NounDatabase, "server": explain.NounServer, "schedule": explain.NounSchedule, "watch-schedule": explain.NounSchedule,
		"kind": explain.NounKind, "queue": explain.NounQueue, "plan": explain.NounPlan, "feature": explain.NounFeature, "region": explain.NounRegion,
		"template": explain.NounTemplate, "calendar": explain.NounCalendar,
	}
	groupNouns = map[string]explain.Noun{
		"tenant": explain.NounTenant, "database": explain.NounDatabase, "server": explain.NounServer, "schedule": explain.NounSchedule, "plan": explain.NounPlan,
		"feature": explain.NounFeature, "region": explain.NounRegion, "calendar": explain.NounCalendar, "blackout": explain.NounBlackout,
		"maintenance-window": explain.NounWindow, "ca": explain.NounAuthority,
	}
)

// newNames are the verbs whose first argument is a name that their group has not yet.
var newNames = []string{"add", "create", "adopt"}

// FreeWords are the arguments that no list of names is for.
var FreeWords = []string{"UID", "UUID", "ID", "ROLE", "DOMAIN", "ADDRESS", "FILE", "TO", "NEW", "OLD", "HOST", "EXPRESSION", "BRAND_ID", "BRAND_NAME"}

// Completes says what each argument of a command is completed with, in order, by the words
// of its usage: a noun, "" for nothing, or "|" and what stands in the usage. ok is false if
// one of them is unknown here.
func Completes(cmd *cobra.Command) (nouns []explain.Noun, ok bool) {
	ok = true
	words, _ := argWords(cmd)
	for i, word := range words {
		noun, known := argNouns[word]
		group := groupNouns[cmd.Parent().Name()]
		if word == "NAME" {
			noun, known = group, group != "" || i > 0 && strings.HasPrefix(string(nouns[i-1]), "|")
		}
		if noun == group && i == 0 && slices.Contains(newNames, cmd.Name()) {
			noun = ""
		}
		if strings.Contains(word, "|") {
			noun, known = explain.Noun("|"+word), true
		}
		nouns, ok = append(nouns, noun), ok && (known || slices.Contains(FreeWords, word))
	}
	return nouns, ok
}

var argWord = regexp.MustCompile(`^[A-Z][A-Z_]*$|^[a-z]+(\|[a-z]+)+$`)

// argWords are the words of a command's usage that stand for arguments: those in capitals,
// and those to choose from, without the values of flags. more says that the last one may
// be repeated.
func argWords(cmd *cobra.Command) (words []string, more bool) {
	ofFlag := false
	for _, text := range strings.Fields(cmd.Use)[1:] {
		word := strings.Trim(strings.TrimSuffix(text, "..."), "[]")
		switch {
		case word == "--":
			return words, more
		case strings.HasPrefix(word, "-"):
			ofFlag = true
		case argWord.MatchString(word) && !ofFlag:
			words, more = append(words, word), strings.HasSuffix(text, "...")
		default:
			ofFlag = false
		}
	}
	return words, more
}

// CompleteNames lets shells complete the names that commands below root take, from the
// central database. Without an answer within a second there are none. Flags and arguments
// that complete something already stay as they are.
func (app *App) CompleteNames(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		app.CompleteNames(cmd)
		if nouns, _ := Completes(cmd); len(nouns) > 0 && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = app.completeArgs(cmd, nouns)
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			noun, known := flagNouns[flag.Name]
			if _, has := cmd.GetFlagCompletionFunc(flag.Name); !known || has || flag.NoOptDefVal != "" {
				return
			}
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) { // fails only for an unknown flag
				return app.names(cmd, noun, prefix), cobra.ShellCompDirectiveNoFileComp
			})
		})
	}
}

func (app *App) completeArgs(cmd *cobra.Command, nouns []explain.Noun) cobra.CompletionFunc {
	words, more := argWords(cmd)
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		at := len(args)
		if more {
			at = min(at, len(nouns)-1)
		}
		switch {
		case at >= len(nouns):
			return nil, cobra.ShellCompDirectiveNoFileComp
		case words[at] == "FILE":
			return nil, cobra.ShellCompDirectiveDefault
		}
		noun := nouns[at]
		if choice, ok := strings.CutPrefix(string(noun), "|"); ok {
			return strings.Split(choice, "|"), cobra.ShellCompDirectiveNoFileComp
		}
		if at > 0 && strings.HasPrefix(string(nouns[at-1]), "|") {
			noun = explain.Noun(args[at-1])
		}
		return app.names(cmd, noun, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// names never says a word, asks for nothing and returns in time: a shell shows what a
// completion prints, and waits for it. What does not return in time ends with the process.
func (app *App) names(cmd *cobra.Command, noun explain.Noun, prefix string) (names []string) {
	if noun == "" || app.begin(cmd, nil) != nil { // which applies the environment's word on flags
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeFor)
	defer cancel()
	silent := *app
	silent.Stdin, silent.Stdout, silent.Stderr, silent.told = strings.NewReader(""), io.Discard, io.Discard, map[string]bool{}
	found := make(chan []string, 1)
	go func() { found <- silent.lookUpNames(ctx, noun, prefix) }()
	select {
	case names = <-found:
	case <-ctx.Done():
	}
	if noun == explain.NounKind {
		for _, kind := range app.Kinds {
			if strings.HasPrefix(kind, prefix) && !slices.Contains(names, kind) {
				names = append(names, kind)
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return printable(name) != name }) // each is a line
}

// lookUpNames asks on one connection, which is not held against the schema's version: what
// does not fit returns nothing.
func (app *App) lookUpNames(ctx context.Context, noun explain.Noun, prefix string) []string {
	cfg, err := app.Config()
	if err != nil {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil
	}
	defer CloseConn(ctx, conn)
	names, err := explain.NamesByPrefix(ctx, conn, noun, prefix, mostNames)
	if err != nil {
		return nil
	}
	return names
}
