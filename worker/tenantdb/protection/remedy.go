package protection

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
)

// usualColumns are looked for, in this order, where nobody has said which column holds the
// organisation.
var usualColumns = []string{"org_id", "tenant_id", "organization_id", "organisation_id", "account_id", "customer_id", "company_id", "workspace_id"}

// orgColumn is the column of a relation that probably holds the organisation, "" for none: one
// that is declared of another table, or a usual one.
func (s *state) orgColumn(r *relation) string {
	if d := s.declared[r.Name]; d.Column != "" && r.hasColumn(d.Column) {
		return d.Column
	}
	for _, usual := range usualColumns {
		if r.hasColumn(usual) {
			return usual
		}
	}
	var declared []string
	for _, d := range s.declared {
		if d.Column != "" && r.hasColumn(d.Column) {
			declared = append(declared, d.Column)
		}
	}
	slices.Sort(declared)
	if len(declared) > 0 {
		return declared[0]
	}
	return ""
}

// parentColumn is the foreign key that leads to a table which is guarded, "" for none.
func (s *state) parentColumn(r *relation) string {
	for _, fk := range r.Parents {
		columns, table, _ := strings.Cut(fk, ">")
		if parent := s.relations[table]; parent != nil && parent.isTable() && !s.declared.is(table, modePublic) && s.unguarded(parent) == "" && parent.has().Select {
			return columns
		}
	}
	return ""
}

// openParent is a parent of a table that is to be guarded through its parents, and that is
// open itself. nil means none.
func (s *state) openParent(r *relation) *relation {
	if s.declared[r.Name].Mode != modeThrough {
		return nil
	}
	for _, fk := range r.Parents {
		_, table, _ := strings.Cut(fk, ">")
		if parent := s.relations[table]; parent != nil && parent != r && parent.isTable() && s.declared[table].Mode == modePolicy && s.unguarded(parent) != "" {
			return parent
		}
	}
	return nil
}

// remedy is the command that mends a relation which is open: it is guarded if somebody can say
// how, and else taken from jobs.
func (s *state) remedy(r *relation) string {
	command, more := "`headgate database protect "+s.database, ""
	if r.isTable() && !r.Partition && !r.Owned {
		if len(r.Rules) > 0 { // which write with the owner's rights
			more = " --grant select"
		}
		if parent := s.openParent(r); parent != nil {
			return s.remedy(parent) // which closes this one too, or lets it be guarded
		}
		switch column, parent := s.orgColumn(r), s.parentColumn(r); {
		case column == defaultColumn:
			return fmt.Sprintf("%s --table %s%s`", command, jobs.ShellWord(r.Name), more)
		case column != "":
			return fmt.Sprintf("%s --table %s --org-column %s%s`", command, jobs.ShellWord(r.Name), jobs.ShellWord(column), more)
		case parent != "":
			return fmt.Sprintf("%s --table %s --through %s%s`", command, jobs.ShellWord(r.Name), jobs.ShellWord(parent), more)
		}
	}
	return s.revoke(r, "ALL")
}

// revoke is the statement that takes rights on a relation from those who hand them to jobs. A
// role of the application's keeps what it has, because the application needs that: the
// membership goes through which jobs have it.
func (s *state) revoke(r *relation, names string) string {
	for _, ro := range s.roles {
		if ro.Name != jobGroup && (ro.Name == r.Owner || slices.Contains(r.Holders, ro.Name)) {
			return revokeRole(ro)
		}
	}
	on := r.Name
	if r.Kind == "S" {
		on = "SEQUENCE " + r.Name
	}
	from := strings.Join(r.Holders, ", ")
	if from == "" {
		from = s.login.name // by a role that reads or writes everything
		for _, ro := range s.roles {
			if ro.Name == "pg_read_all_data" || ro.Name == "pg_write_all_data" {
				return revokeRole(ro)
			}
		}
	}
	return fmt.Sprintf("REVOKE %s ON %s FROM %s", names, on, from)
}
