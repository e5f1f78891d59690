package schedulecmd

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file can say every field of a spec: a field that is added tomorrow is among them.
func TestAFileHasEveryField(t *testing.T) {
	t.Parallel()
	whole, err := parseScheduleFile([]byte(`
name: site
schedules:
  - {name: all, select: all, kind: headgate.analyze, queue: slow, priority: 2, max_attempts: 3, cron: '@daily', zone: Asia/Tokyo, gap: skip, repeat: both,
     start: 2031-01-01T00:00:00Z, end: 2032-01-01T00:00:00Z, max: 3, calendars: [c], windows: ['01:00-02:00'], spread: 10m, overlap: allow, buffer_max: 4,
     catch_up: {policy: all, max: 5, window: 1h}, pause_after: 6, maintenance: true, brand: 7}
`))
	require.NoError(t, err)
	spec := specOf(&whole.Schedules[0])
	for _, part := range []reflect.Value{reflect.ValueOf(spec), reflect.ValueOf(spec.Policy)} {
		for i := range part.NumField() {
			if name := part.Type().Field(i).Name; name != "Kind" && name != "Args" { // of the kind's own type
				require.False(t, part.Field(i).IsZero(), name)
			}
		}
	}
}
