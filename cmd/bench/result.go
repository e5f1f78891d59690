package main

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// report is the shape of `bench -o json`.
type report struct {
	Name        string            `json:"name"`
	Machine     machine           `json:"machine"`
	Settings    map[string]string `json:"settings"` // of the server and of both sides
	Comparisons []comparison      `json:"comparisons"`
}

// machine is where it was measured.
type machine struct {
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	Load string `json:"load,omitempty"` // of the last minute, before it began
}

// comparison is one figure of both sides. Ratio is ours/theirs, the median of
// the ratios of the pairs; which direction is good stands in Unit. CPU is per
// job, 0 where it cannot be read.
type comparison struct {
	What      string  `json:"what"`
	Unit      string  `json:"unit"`
	Ours      float64 `json:"ours"`
	Theirs    float64 `json:"theirs"`
	Ratio     float64 `json:"ratio"`
	RatioMin  float64 `json:"ratio_min"`
	RatioMax  float64 `json:"ratio_max"`
	Postgres  float64 `json:"cpu_us_postgres"`
	Go        float64 `json:"cpu_us_go"`
	Postgres2 float64 `json:"cpu_us_postgres_theirs"`
	Go2       float64 `json:"cpu_us_go_theirs"`
	Pairs     int     `json:"pairs"`

	// Samples is how many jobs each side was sent in all pairs together.
	Samples int `json:"samples"`

	// Above250 counts those that waited longer than 250 ms: lost wake-ups.
	Above250  *int `json:"above_250ms,omitempty"`
	Above2502 *int `json:"above_250ms_theirs,omitempty"`
}

const (
	perSecond  = "jobs/s, more is better"
	inMillis   = "ms, less is better"
	inMicros   = "us, less is better"
	inCPUMicro = "CPU us/job, less is better"
	inConnects = "connects/job, less is better"
)

// measure says which figure of a half is compared, and in what.
type measure struct {
	what, unit string
	of         func(half) float64
}

// compare makes one comparison of all pairs.
func compare(m measure, pairs []pair) comparison {
	side := func(pick func(pair) half, of func(half) float64) []float64 {
		values := make([]float64, len(pairs))
		for i, p := range pairs {
			values[i] = of(pick(p))
		}
		return values
	}
	ours, theirs := func(p pair) half { return p.ours }, func(p pair) half { return p.theirs }
	ratios := make([]float64, len(pairs))
	c := comparison{What: m.what, Unit: m.unit, Pairs: len(pairs)}
	for i, p := range pairs {
		ratios[i] = m.of(p.ours) / m.of(p.theirs)
		c.Samples += p.ours.jobs
	}
	c.Ours, c.Theirs = median(side(ours, m.of)), median(side(theirs, m.of))
	c.Ratio, c.RatioMin, c.RatioMax = median(ratios), rounded(slices.Min(ratios)), rounded(slices.Max(ratios))
	c.Postgres, c.Go = median(side(ours, half.postgresMicros)), median(side(ours, half.goMicros))
	c.Postgres2, c.Go2 = median(side(theirs, half.postgresMicros)), median(side(theirs, half.goMicros))
	return c
}

// median of a list that is not empty.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return rounded((values[(n-1)/2] + values[n/2]) / 2)
}

// rounded keeps four digits, more would pretend.
func rounded(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	text := strconv.FormatFloat(v, 'e', 3, 64)
	v, _ = strconv.ParseFloat(text, 64) // it was just written
	return v
}

// row is one comparison in a table.
type row struct {
	bench string
	comparison
}

var columns = []cli.Column[row]{
	{Name: "bench", Of: func(r row) any { return r.bench }},
	{Name: "what", Of: func(r row) any { return r.What }},
	{Name: "ours", Of: func(r row) any { return r.Ours }},
	{Name: "theirs", Of: func(r row) any { return r.Theirs }},
	{Name: "ratio", Of: func(r row) any { return r.Ratio }},
	{Name: "ratio_min", Of: func(r row) any { return r.RatioMin }},
	{Name: "ratio_max", Of: func(r row) any { return r.RatioMax }},
	{Name: "cpu_postgres", Of: func(r row) any { return both(r.Postgres, r.Postgres2) }},
	{Name: "cpu_go", Of: func(r row) any { return both(r.Go, r.Go2) }},
	{Name: "unit", Of: func(r row) any { return r.Unit }},
	{Name: "above_250ms", Of: func(r row) any {
		if r.Above250 == nil {
			return ""
		}
		return strconv.Itoa(*r.Above250) + "/" + strconv.Itoa(*r.Above2502) + " of " + strconv.Itoa(r.Samples)
	}},
}

func both(ours, theirs float64) string {
	return strconv.Itoa(int(math.Round(ours))) + "/" + strconv.Itoa(int(math.Round(theirs)))
}

func thisMachine() machine {
	m := machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(load), " ")
	}
	return m
}
