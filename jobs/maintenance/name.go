package maintenance

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// namePattern is a name as Postgres takes it without quotes, up to its limit
// of 63 bytes.
var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]{0,62}$`)

// tableName reads name or schema.name.
func tableName(text string) (pgx.Identifier, error) {
	parts := strings.Split(text, ".")
	for _, part := range parts {
		if len(parts) > 2 || !namePattern.MatchString(part) {
			return nil, jobs.AsInputError("tables", fmt.Errorf("table %.140q: want name or schema.name, each of 1 to 63 letters, digits, _ and $, not beginning with a digit and without quotes", text))
		}
	}
	return pgx.Identifier(parts), nil
}

func checkTables(tables []string) error {
	for i, table := range tables {
		if _, err := tableName(table); err != nil {
			return fmt.Errorf("tables[%d]: %w", i, err)
		}
	}
	return nil
}
