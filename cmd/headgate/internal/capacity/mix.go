package capacity

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
)

// Part is one sort of job, and how often it comes in comparison with the others.
type Part struct {
	Name   string
	Weight int
	Args   jobs.Args
}

// Mix is the jobs of a test.
type Mix []Part

// The built-in parts work on a table of their own in the copy.
const (
	partReport      = "report"
	partWrite       = "write"
	partMaintenance = "maintenance"
)

// DefaultMix is the mix where none is given.
const DefaultMix = partReport + "=6," + partWrite + "=3," + partMaintenance + "=1"

// maxWeight bounds one weight.
const maxWeight = 1000

// ownTable is the table of the built-in parts, guarded as `headgate database protect` guards
// a table with policies.
const ownTable = `
CREATE SCHEMA headgate_capacity;
CREATE TABLE headgate_capacity.entries (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id bigint NOT NULL,
    amount numeric(12, 2) NOT NULL,
    note   text NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX entries_org ON headgate_capacity.entries (org_id, at);
ALTER TABLE headgate_capacity.entries ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON headgate_capacity.entries USING (true) WITH CHECK (true);
CREATE POLICY jobs ON headgate_capacity.entries AS RESTRICTIVE TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
GRANT USAGE ON SCHEMA headgate_capacity TO headgate_job;
GRANT SELECT, INSERT, DELETE ON headgate_capacity.entries TO headgate_job`

// insertEntries gives organisations $1 to $2 rows, $3 each, of the last 90 days.
const insertEntries = `
INSERT INTO headgate_capacity.entries (org_id, amount, note, at)
SELECT o, (n * 7919 % 100000) / 100.0, repeat('x', 100), now() - n % 90 * interval '1 day'
FROM generate_series($1::bigint, $2::bigint) o, generate_series(1, $3::int) n`

// reportQuery reads all rows of a tenant.
const reportQuery = `
SELECT date_trunc('day', at) AS day, count(*) AS entries, sum(amount) AS amount
FROM headgate_capacity.entries GROUP BY 1 ORDER BY 1`

// insertEntry is the write.
const insertEntry = `
INSERT INTO headgate_capacity.entries (org_id, amount, note) VALUES (headgate.current_org(), 1, repeat('x', 100))`

// deleteOldest is the maintenance: with the default weights it deletes what the writes insert.
const deleteOldest = `
DELETE FROM headgate_capacity.entries
WHERE id IN (SELECT e.id FROM headgate_capacity.entries e WHERE e.org_id = (SELECT headgate.current_org()) ORDER BY e.at LIMIT 3)`

func builtin() map[string]jobs.Args {
	return map[string]jobs.Args{
		partReport:      report.Args{Name: "capacity", Query: strings.TrimSpace(reportQuery)},
		partWrite:       sqlscript.Args{SQL: strings.TrimSpace(insertEntry)},
		partMaintenance: sqlscript.Args{SQL: strings.TrimSpace(deleteOldest)},
	}
}

// ParseMix reads NAME=WEIGHT,NAME=WEIGHT. own is SQL of the operator's, by name; "" takes the
// operator's in equal parts, or the built-in mix where there is none.
func ParseMix(text string, own map[string]string) (Mix, error) {
	known := builtin()
	var names []string
	for name, sql := range own {
		if _, taken := known[name]; taken {
			return nil, cli.Usagef("--sql: %s is the name of a built-in part: give the file another name", cli.Quote(name))
		}
		known[name] = sqlscript.Args{SQL: sql}
		if err := jobs.CheckArgs(known[name]); err != nil {
			return nil, cli.Usagef("--sql: %s: %w", cli.Quote(name), err)
		}
	}
	for name := range known {
		names = append(names, name)
	}
	switch {
	case text == "" && len(own) == 0:
		text = DefaultMix
	case text == "":
		for name := range own {
			text += "," + name + "=1"
		}
		text = text[1:]
	}
	var mix Mix
	for _, piece := range strings.Split(text, ",") {
		name, number, _ := strings.Cut(piece, "=")
		args, ok := known[name]
		if !ok {
			return nil, cli.Usagef("--mix: %s is neither built in (%s, %s, %s) nor the name of a file that --sql gives%s", cli.Quote(name), partReport, partWrite, partMaintenance, cli.DidYouMean(cli.Nearest(name, names, "")...))
		}
		weight, ok := cli.Whole(number)
		if !ok || weight < 1 || weight > maxWeight {
			return nil, cli.Usagef("--mix: %s is not NAME=WEIGHT with a weight of 1 to %d, as in %s", cli.Quote(piece), maxWeight, DefaultMix)
		}
		for _, part := range mix {
			if part.Name == name {
				return nil, cli.Usagef("--mix: %s has its weight twice: give it once", cli.Quote(name))
			}
		}
		mix = append(mix, Part{name, weight, args})
	}
	return mix, nil
}

// own reports whether a part works on the table of the built-in parts.
func (m Mix) own() bool {
	known := builtin()
	for _, part := range m {
		if _, ok := known[part.Name]; ok {
			return true
		}
	}
	return false
}

// pick draws a part by the weights.
func (m Mix) pick(chance *rand.Rand) Part {
	sum := 0
	for _, part := range m {
		sum += part.Weight
	}
	n := chance.IntN(sum)
	for _, part := range m {
		if n -= part.Weight; n < 0 {
			return part
		}
	}
	return m[len(m)-1] // not reached: the weights are positive
}

// String writes the mix as ParseMix reads it.
func (m Mix) String() string {
	pieces := make([]string, len(m))
	for i, part := range m {
		pieces[i] = fmt.Sprintf("%s=%d", part.Name, part.Weight)
	}
	return strings.Join(pieces, ",")
}
