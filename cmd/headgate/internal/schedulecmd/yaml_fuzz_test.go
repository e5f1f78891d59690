package schedulecmd

import (
	"encoding/json"
	"testing"
)

// Whatever stands in a file of schedules, it is read or refused; what is read as
// arguments is JSON, and the same the second time.
func FuzzScheduleFile(f *testing.F) {
	for _, text := range []string{
		"name: a\nschedules: [{name: b, select: all, kind: k, cron: '@daily', args: {a: 1, b: [true, null, 1e9, x]}}]",
		"name: a\n---\nschedules: [{name: b, select: &s plan = x, args: &v {c: 0.10}}, {name: c, select: *s, args: *v}]",
		"x: &x {a: 1}\nname: a\nschedules: [{<<: *x, name: b}]", "- &a [*a]", "{? [a] : b}", "*a", "--- # c", "", "\xff", "name: a\n...\n%YAML 1.1\n---\n",
		"name: a\nschedules: [{overrides: {acme: {args: {a: 01}}, 1: {cron: x}}}]", "name: {<<: [{a: 1}, {a: 2}]}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseScheduleFile([]byte(text))
		if err != nil {
			return
		}
		again, err := parseScheduleFile([]byte(text))
		if err != nil || len(again.Schedules) != len(file.Schedules) {
			t.Fatalf("%q is read once only: %v", text, err)
		}
		for i, s := range file.Schedules {
			if s.Args != nil && !json.Valid(s.Args) {
				t.Fatalf("%q: %s is no JSON", text, s.Args)
			}
			if string(s.Args) != string(again.Schedules[i].Args) {
				t.Fatalf("%q: %s and %s", text, s.Args, again.Schedules[i].Args)
			}
		}
	})
}
