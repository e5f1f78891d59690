package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// NotZero refuses a flag given as nothing, which the client would take for its
// default.
func NotZero(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		flag := cmd.Flags().Lookup(name)
		if value := flag.Value.String(); flag.Changed && (value == "0" || value == "0s" || value == "") {
			return Usagef("--%s: %s does not fit; leave it out for the default; %s", name, Quote(value), flag.Usage)
		}
	}
	return nil
}

// TimeFlag reads the value of a flag that is a time; the zero time stands for none.
func TimeFlag(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err == nil && at.IsZero() {
		return at, Usagef("--%s: %s is the zero time, which nobody means: give a time from 1970 on, or leave it out", name, Quote(text))
	}
	if err != nil {
		return at, Usagef("--%s: %s is no time of the calendar in RFC 3339 form; write date, time and zone as in 2026-12-01T03:00:00Z", name, Quote(text))
	}
	return at, nil
}

// Required says which of these flags is missing.
func Required(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if flag := cmd.Flags().Lookup(name); !flag.Changed {
			return Usagef("--%s is missing: %s", name, flag.Usage)
		}
	}
	return nil
}
