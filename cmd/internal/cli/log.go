package cli

import (
	"io"
	"log/slog"
)

var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
)

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	if err := OneOf("--log-level", level, logLevels); err != nil {
		return nil, err
	}
	if err := OneOf("--log-format", format, logFormats); err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{}
	var lowest slog.Level
	if err := lowest.UnmarshalText([]byte(level)); err != nil {
		return nil, err
	}
	opts.Level = lowest
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
