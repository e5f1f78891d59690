package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// protocols are what OTEL_EXPORTER_OTLP_PROTOCOL and its like may say.
var protocols = []string{"grpc", "http/protobuf"}

// exporterNames are what OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER may say.
var exporterNames = map[string][]string{"TRACES": {"otlp", "console", "none"}, "METRICS": {"otlp", "prometheus", "console", "none"}}

// checkExporters names each variable that autoexport would refuse without its name, with what
// is allowed. The value is left out: it may be a token in the wrong place.
func checkExporters(app *cli.App, traces, metrics bool) error {
	var wrong []string
	if traces {
		wrong = append(wrong, unknownSettings(app, "TRACES")...)
	}
	if metrics {
		wrong = append(wrong, unknownSettings(app, "METRICS")...)
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return cli.Usagef("%s; give one of these, or unset the variable", strings.Join(slices.Compact(wrong), "; "))
}

// unknownSettings are sentences about the variables of a signal: TRACES or METRICS.
func unknownSettings(app *cli.App, signal string) (wrong []string) {
	check := func(name string, allowed []string, values ...string) {
		if slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(allowed, v) }) {
			wrong = append(wrong, fmt.Sprintf("%s is none of %s", name, strings.Join(allowed, ", ")))
		}
	}
	exporter := app.Env("OTEL_" + signal + "_EXPORTER")
	if exporter != "" {
		check("OTEL_"+signal+"_EXPORTER", exporterNames[signal], exporter)
	}
	if exporter == "" || exporter == "otlp" {
		for _, name := range []string{"OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
			if protocol := app.Env(name); protocol != "" {
				check(name, protocols, protocol)
				break // the signal's own comes first
			}
		}
	}
	if producers := app.Env("OTEL_METRICS_PRODUCERS"); producers != "" && signal == "METRICS" && exporter != "none" {
		check("OTEL_METRICS_PRODUCERS", []string{"prometheus", "none"}, strings.Split(producers, ",")...)
	}
	return wrong
}
