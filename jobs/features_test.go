package jobs_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

func features(t *testing.T, text string) jobs.Tenant {
	t.Helper()
	var tenant jobs.Tenant
	require.NoError(t, json.Unmarshal([]byte(`{"features": `+text+`}`), &tenant))
	return tenant
}

func TestAFeatureHasOneType(t *testing.T) {
	t.Parallel()
	tenant := features(t, `{"on": true, "off": false, "seats": 12.5, "huge": 1e400, "skin": "d\"ark", "digits": "7", "truth": "true"}`)
	for name, want := range map[string]struct {
		on     bool
		number float64
		text   string
	}{
		"on":     {true, -1, "none"},
		"off":    {false, -1, "none"},
		"seats":  {false, 12.5, "none"},
		"huge":   {false, -1, "none"},
		"skin":   {false, -1, `d"ark`},
		"digits": {false, -1, "7"},
		"truth":  {false, -1, "true"},
		"absent": {false, -1, "none"},
		"":       {false, -1, "none"},
	} {
		f := tenant.Feature(name)
		require.Equal(t, want.on, f.Bool(), name)
		require.InDelta(t, want.number, f.Number(-1), 0, name)
		require.Equal(t, want.text, f.Text("none"), name)
		require.Equal(t, name != "absent" && name != "", f.Exists(), name)
	}
	require.False(t, jobs.Tenant{}.Feature("on").Exists())
}

func TestFeaturesInJSON(t *testing.T) {
	t.Parallel()
	tenant := features(t, `{"b": 1e400, "a": true}`)
	text, err := json.Marshal(tenant.Features)
	require.NoError(t, err)
	require.Equal(t, `{"a":true,"b":1e400}`, string(text))
	require.Equal(t, []string{"a", "b"}, tenant.Features.Names())
	text, err = json.Marshal(jobs.Features{})
	require.NoError(t, err)
	require.Equal(t, `{}`, string(text))
	require.Error(t, json.Unmarshal([]byte(`{"features": [1]}`), &tenant))
}

func TestWatchedFeatures(t *testing.T) {
	t.Parallel()
	tenant := features(t, `{"on": true}`)
	seen := map[string]string{}
	tenant.Features = tenant.Features.Watched(func(name string, value json.RawMessage) { seen[name] = string(value) })
	copied := tenant
	require.True(t, copied.Feature("on").Bool())
	require.False(t, tenant.Feature("other").Exists())
	require.Equal(t, map[string]string{"on": "true", "other": ""}, seen)
}
