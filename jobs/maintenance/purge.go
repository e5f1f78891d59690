package maintenance

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Limits of a purge.
const (
	DefaultBatch   = 5_000
	MaxBatch       = 50_000
	DefaultMaxRows = 100_000
	MaxMaxRows     = 1_000_000
)

// Purge deletes the rows of one table that are older than a given age.
type Purge struct {
	// Table is the table, name or schema.name. A partitioned table is meant
	// with its partitions.
	Table string `json:"table"`

	// Column says how old a row is: a date, timestamp or timestamptz. NULL is
	// never old. A date or timestamp is read in the session's time zone.
	Column string `json:"column"`

	// OlderThan is the age with its unit, hours or days of 24 hours: "36h",
	// "90d". At least "1h".
	OlderThan string `json:"older_than"`

	// Batch is the number of rows that one statement deletes. 0 means 5,000;
	// at most 50,000.
	Batch int `json:"batch,omitempty"`

	// MaxRows is the number of rows that one job deletes. All of them stay
	// locked until the job commits, hence a bound. 0 means 100,000; at most
	// 1,000,000.
	MaxRows int `json:"max_rows,omitempty"`
}

// Kind returns "headgate.purge".
func (Purge) Kind() string { return "headgate.purge" }

// KindOpts makes it a job of queue bulk.
func (Purge) KindOpts() jobs.KindOpts { return jobs.KindOpts{Queue: jobs.BulkQueue} }

// Check says which field no attempt could work with. Whether the table is there it does
// not know.
func (p Purge) Check() error {
	_, err := p.plan()
	return err
}

// plan is a checked Purge.
type plan struct {
	table, column  pgx.Identifier
	hours          int
	batch, maxRows int
	ownOrg         bool // rows of the job's organisation only: the table says whose each is
}

var agePattern = regexp.MustCompile(`^([0-9]{1,5})([hd])$`)

// plan fills in the defaults and refuses what no attempt can do.
func (p Purge) plan() (*plan, error) {
	table, err := tableName(p.Table)
	if err != nil {
		return nil, err
	}
	if !namePattern.MatchString(p.Column) {
		return nil, jobs.AsInputError("column", fmt.Errorf("column %.80q: want 1 to 63 letters, digits, _ and $, not beginning with a digit and without quotes", p.Column))
	}
	hours, err := ageHours(p.OlderThan)
	if err != nil {
		return nil, err
	}
	checked := &plan{
		table: table, column: pgx.Identifier{p.Column}, hours: hours,
		batch: cmp.Or(p.Batch, DefaultBatch), maxRows: cmp.Or(p.MaxRows, DefaultMaxRows),
	}
	if checked.batch < 1 || checked.batch > MaxBatch {
		return nil, jobs.Inputf("batch", strconv.Itoa(p.Batch), "want 1 to %d, or 0 for %d", MaxBatch, DefaultBatch)
	}
	if checked.maxRows < 1 || checked.maxRows > MaxMaxRows {
		return nil, jobs.Inputf("max_rows", strconv.Itoa(p.MaxRows), "want 1 to %d, or 0 for %d", MaxMaxRows, DefaultMaxRows)
	}
	return checked, nil
}

// ageHours reads an age with its unit.
func ageHours(text string) (int, error) {
	found := agePattern.FindStringSubmatch(text)
	if found == nil {
		return 0, jobs.AsInputError("older_than", fmt.Errorf(`older_than %.40q: write a whole number with its unit, hours or days: "36h" or "90d"`, text))
	}
	hours, err := strconv.Atoi(found[1])
	if err != nil {
		return 0, jobs.AsInputError("older_than", fmt.Errorf("older_than: %w", err))
	}
	if found[2] == "d" {
		hours *= 24
	}
	if hours == 0 {
		return 0, jobs.AsInputError("older_than", errors.New(`older_than must be at least "1h"`))
	}
	return hours, nil
}
