package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// telemetryLog takes what OpenTelemetry's own code says. Of a setting that it could not read
// it repeats the value, which may be a password: only its sentence goes on, which is constant.
type telemetryLog struct{ next slog.Handler }

// telemetryWarn is the level of its warnings, in the levels of logr: more is less.
const telemetryWarn slog.Level = -1

// Enabled passes warnings and errors.
func (h telemetryLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= telemetryWarn && h.next.Enabled(ctx, slog.LevelWarn)
}

// Handle writes a line without its attributes.
func (h telemetryLog) Handle(ctx context.Context, r slog.Record) error {
	line := slog.NewRecord(r.Time, slog.LevelWarn, "OpenTelemetry could not use a setting, and goes on without it", 0)
	line.AddAttrs(slog.String("failed", r.Message), slog.String("hint", "look at the variables OTEL_*; what they say is not logged"))
	return h.next.Handle(ctx, line)
}

// WithAttrs drops attributes.
func (h telemetryLog) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup drops the group.
func (h telemetryLog) WithGroup(string) slog.Handler { return h }

// secretSettings are the variables that may hold a password or a token.
var secretSettings = []string{
	"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
	"OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
	endpoint, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
}

// shortestSecret is from how many bytes on a part of a setting is taken out of texts. A shorter
// one may stand there by chance.
const shortestSecret = 4

// hidden takes out of a text what such variables hold: headers' values and keys whole, of an
// address what stands before and behind its host.
func hidden(app *cli.App) *strings.Replacer {
	var words []string
	add := func(text string) {
		if text = strings.TrimSpace(text); len(text) >= shortestSecret {
			words = append(words, text)
		}
	}
	for _, name := range secretSettings {
		text := app.Env(name)
		if strings.HasSuffix(name, "_ENDPOINT") {
			for _, part := range besideHost(text) {
				add(part)
			}
			continue
		}
		add(text)
		for part := range strings.SplitSeq(text, ",") {
			_, value, _ := strings.Cut(part, "=")
			add(value)
			if plain, err := url.PathUnescape(value); err == nil {
				add(plain)
			}
		}
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // a part of another comes later
	pairs := make([]string, 0, 2*len(words))
	for _, word := range words {
		pairs = append(pairs, word, "[left out]")
	}
	return strings.NewReplacer(pairs...)
}

// besideHost are the parts of an address but its scheme, host and port, in each form in which
// a text may have them. It is read by hand, because an address that is broken is told too.
func besideHost(address string) (parts []string) {
	scheme, rest, is := strings.Cut(strings.TrimSpace(address), "//")
	if !is {
		rest = scheme
	}
	place, behind := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		place, behind = rest[:i], rest[i:]
	}
	if i := strings.LastIndex(place, "@"); i >= 0 {
		user, password, _ := strings.Cut(place[:i], ":")
		parts = append(parts, place[:i], user, password)
	}
	within := strings.FieldsFunc(behind, func(r rune) bool { return strings.ContainsRune("/?#&=", r) })
	if within = slices.DeleteFunc(within, func(part string) bool { return slices.Contains(signals, part) }); len(within) > 0 {
		parts = append(append(parts, strings.TrimRight(behind, "/")), within...)
	}
	for _, part := range parts {
		plain, err := url.PathUnescape(part)
		if err != nil {
			continue
		}
		parts = append(parts, plain, url.PathEscape(plain), url.QueryEscape(plain))
	}
	return parts
}

// signals are the parts of a path that each collector has, and no secret.
var signals = []string{"v1", "traces", "metrics", "otlp"}
