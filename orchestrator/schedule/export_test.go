package schedule

// LockTemplates is what who changes a selector schedule executes first.
const LockTemplates = lockTemplates

// BatchSize is how many schedules the next batch takes at most.
func BatchSize(s *Scheduler) int { return s.size.limit() }

// SchedulerLimits and SelectorLimits are of their transactions.
var (
	SchedulerLimits = schedulerLimits
	SelectorLimits  = selectorLimits
)

// Statements whose plans are looked at, and their settings.
const (
	ClaimDueSQL             = claimDueSQL
	TickSQL                 = tickSQL
	NoBitmapScan            = noBitmapScan
	SelectUnfinishedSQL     = selectUnfinished
	ListTenantSchedules     = listTenantSchedules
	ListDatabaseSchedules   = listDatabaseSchedules
	ListOneTenantsSchedules = listOneTenantsSchedules
)

// Former are the times that a schedule had, as its row keeps them.
type Former = former

// TimesWith are f's times with all else of a spec.
func TimesWith(f Former, s Spec) Spec { return f.timesWith(s) }

// SpecColumns are the columns of a Spec, as statements name them.
const SpecColumns = specColumns

// SpecFields are the columns in the list of a Spec's fields.
func SpecFields() (columns []string) {
	for _, f := range specFields {
		columns = append(columns, f.column)
	}
	return columns
}

// Field is where a field of a Spec is, by its column.
func Field(s *Spec, column string) any {
	for _, f := range specFields {
		if f.column == column {
			return f.of(s)
		}
	}
	return nil
}
