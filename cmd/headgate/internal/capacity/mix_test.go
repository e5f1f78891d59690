package capacity

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
)

func FuzzParseMix(f *testing.F) {
	for _, text := range []string{"", DefaultMix, "nightly=1", "report=6,write", "report=6,report=1", "=", ",", "write=99999999999999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		mix, err := ParseMix(text, map[string]string{"nightly": "SELECT 1"})
		if err != nil {
			return
		}
		require.NotEmpty(t, mix)
		again, err := ParseMix(mix.String(), map[string]string{"nightly": "SELECT 1"})
		require.NoError(t, err)
		require.Equal(t, mix, again)
		for _, part := range mix {
			require.NoError(t, jobs.CheckArgs(part.Args))
		}
	})
}

func TestMixesThatNobodyMeans(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"reprot=1": "did you mean report?", "report": "is not NAME=WEIGHT", "report=1001": "1 to 1000", "write=1,write=2": "has its weight twice",
	} {
		_, err := ParseMix(text, nil)
		require.ErrorContains(t, err, says)
	}
	_, err := ParseMix("", map[string]string{"report": "SELECT 1"})
	require.ErrorContains(t, err, "is the name of a built-in part")
	_, err = ParseMix("", map[string]string{"nightly": ""})
	require.ErrorContains(t, err, "nightly")
	mix, err := ParseMix("", map[string]string{"nightly": "SELECT 1"})
	require.NoError(t, err)
	require.Equal(t, "nightly=1", mix.String())
	require.False(t, mix.own(), "no table is made for it")
}

// Each part is drawn as often as its weight says.
func TestPartsAreDrawnByWeight(t *testing.T) {
	t.Parallel()
	mix, err := ParseMix(DefaultMix, nil)
	require.NoError(t, err)
	drawn, chance := map[string]int{}, rand.New(rand.NewPCG(1, 2))
	const all = 100_000
	for range all {
		drawn[mix.pick(chance).Name]++
	}
	for _, part := range mix {
		require.InDelta(t, float64(part.Weight)/10, float64(drawn[part.Name])/all, 0.01, part.Name)
	}
}

// The steps begin and end where they are to, and double; each step's jobs fall into its time,
// in order, and every tenant has its part of them.
func TestStepsAndTheirJobs(t *testing.T) {
	t.Parallel()
	mix, err := ParseMix(DefaultMix, nil)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 5000).Draw(t, "most")
		p := Plan{First: rapid.IntRange(1, most).Draw(t, "first"), Most: most, PerHour: rapid.Float64Range(0.001, 600).Draw(t, "rate"), Mix: mix}
		p.For = time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second
		sizes := p.Sizes()
		require.Equal(t, p.First, sizes[0])
		require.Equal(t, p.Most, sizes[len(sizes)-1])
		for i := 1; i < len(sizes); i++ {
			require.Greater(t, sizes[i], sizes[i-1])
			require.LessOrEqual(t, sizes[i], 2*sizes[i-1])
		}
		all, tenants := p.offers(most), map[int]int{}
		require.Len(t, all, p.Offered(most))
		for i, o := range all {
			require.True(t, o.after >= 0 && o.after < p.For)
			require.True(t, i == 0 || o.after >= all[i-1].after)
			tenants[o.tenant]++
		}
		for tenant, n := range tenants {
			require.True(t, tenant >= 0 && tenant < most)
			require.InDelta(t, float64(len(all))/float64(most), float64(n), 1)
		}
		require.Equal(t, all, p.offers(most), "the same each time")
	})
}
