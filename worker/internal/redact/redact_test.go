package redact_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/internal/redact"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// planted is the value of a row that no text may hold.
const planted = "ada" // of ada@example.com

const schema = `
CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, age int CHECK (age > 0), born date, code varchar(5), home inet, doc jsonb, part text NOT NULL);
INSERT INTO people VALUES (1, 'ada@example.com', 1, NULL, NULL, NULL, NULL, 'x');
CREATE TABLE pets (owner text REFERENCES people (email));
INSERT INTO pets VALUES ('ada@example.com');
CREATE TABLE parted (email text) PARTITION BY LIST (email);
CREATE DOMAIN mail AS text CONSTRAINT is_short CHECK (length(VALUE) < 3);
CREATE VIEW few AS SELECT * FROM people WHERE id < 0 WITH CHECK OPTION;
CREATE TABLE spans (during int4range, email text, EXCLUDE USING gist (during WITH &&));
INSERT INTO spans VALUES ('[1,9]', 'ada@example.com');
CREATE FUNCTION complain(code text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no mail for %', 'ada@example.com' USING ERRCODE = code, DETAIL = 'of ada@example.com', HINT = 'ask ada@example.com'; END $$;
CREATE FUNCTION dynamic(said text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT ' || said; END $$;
CREATE FUNCTION asserts() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ASSERT false, 'ada@example.com is wrong'; END $$`

// Statements that make Postgres repeat a value, in the message, the detail or the context,
// and the sentence that is left.
var repeating = map[string]string{
	`SELECT 'ada@example.com'::text::int`:                                                                  `ERROR: invalid_text_representation (SQLSTATE 22P02)`,
	`SELECT 'ada@example.com'::text::date`:                                                                 `ERROR: invalid_datetime_format (SQLSTATE 22007)`,
	`SELECT 'ada@example.com'::text::inet`:                                                                 `ERROR: invalid_text_representation (SQLSTATE 22P02)`,
	`SELECT 'ada@example.com'::text::jsonb`:                                                                `ERROR: invalid_text_representation (SQLSTATE 22P02)`,
	`SELECT 'ada@example.com'::text::uuid`:                                                                 `ERROR: invalid_text_representation (SQLSTATE 22P02)`,
	`SELECT 'ada@example.com'::text::interval`:                                                             `ERROR: invalid_datetime_format (SQLSTATE 22007)`,
	`SELECT now() AT TIME ZONE 'ada@example.com'`:                                                          `ERROR: invalid_parameter_value (SQLSTATE 22023)`,
	`SELECT to_timestamp('ada@example.com', 'YYYY')`:                                                       `ERROR: invalid_datetime_format (SQLSTATE 22007)`,
	`SELECT set_config('work_mem', 'ada@example.com', true)`:                                               `ERROR: invalid_parameter_value (SQLSTATE 22023)`,
	`SELECT parse_ident('ada@example.com')`:                                                                `ERROR: invalid_parameter_value (SQLSTATE 22023)`,
	`INSERT INTO people VALUES (2, 'ada@example.com', 1, NULL, NULL, NULL, NULL, 'x')`:                     `ERROR: duplicate key value violates unique constraint "people_email_key" (SQLSTATE 23505)`,
	`INSERT INTO people VALUES (3, 'ada@example.com', 1)`:                                                  `ERROR: null value in column "part" of relation "people" violates not-null constraint (SQLSTATE 23502)`,
	`UPDATE people SET age = -1`:                                                                           `ERROR: new row for relation "people" violates check constraint "people_age_check" (SQLSTATE 23514)`,
	`DELETE FROM people`:                                                                                   `ERROR: update or delete on table "people" violates foreign key constraint "pets_owner_fkey" on table "pets" (SQLSTATE 23503)`,
	`INSERT INTO parted VALUES ('ada@example.com')`:                                                        `ERROR: no partition of relation "parted" found for row (SQLSTATE 23514)`,
	`UPDATE few SET id = 1; INSERT INTO few VALUES (7, 'x', 1, NULL, NULL, NULL, NULL, 'ada@example.com')`: `ERROR: new row violates check option for view "few" (SQLSTATE 44000)`,
	`SELECT complain('P0001')`:                                                                             `ERROR: raise_exception (SQLSTATE P0001)`,
	`SELECT complain('23514')`:                                                                             `ERROR: check_violation (SQLSTATE 23514)`,
	`SELECT complain('HG001')`:                                                                             `ERROR: a condition of the database's own functions (SQLSTATE HG001)`,
	`SELECT complain('U0815')`:                                                                             `ERROR: a condition of the database's own functions (SQLSTATE U0815)`,
	`SELECT asserts()`:                                                                                     `ERROR: assert_failure (SQLSTATE P0004)`,
	`SELECT dynamic('''ada@example.com')`:                                                                  `ERROR: syntax_error, at character 8 of a statement inside it (SQLSTATE 42601)`,
	`SELECT 1 'ada@example.com'`:                                                                           `ERROR: syntax_error, at character 10 (SQLSTATE 42601)`,
	`SELECT dynamic('1/0 -- ada@example.com')`:                                                             `ERROR: division_by_zero (SQLSTATE 22012)`,
}

// Statements whose messages name objects, and stay.
var naming = map[string]string{
	`SELECT * FROM nowhere`:                             `ERROR: relation "nowhere" does not exist (SQLSTATE 42P01)`,
	`SELECT nothing FROM people`:                        `ERROR: column "nothing" does not exist (SQLSTATE 42703)`,
	`SELECT (SELECT id FROM people UNION ALL SELECT 2)`: `ERROR: more than one row returned by a subquery used as an expression (SQLSTATE 21000)`,
	`SET LOCAL lock_timeout = 1; SELECT nowhere()`:      `ERROR: function nowhere() does not exist (SQLSTATE 42883)`,
}

func TestText(t *testing.T) {
	t.Parallel()
	db := jobstest.New(t).Database("db", jobstest.DatabaseOpts{Schema: schema})
	ask := func(sql string) *pgconn.PgError {
		_, err := db.Pool.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol)
		var said *pgconn.PgError
		require.ErrorAs(t, err, &said, sql)
		return said
	}
	for sql, want := range repeating {
		said := ask(sql)
		require.Contains(t, said.Error()+said.Detail+said.Hint+said.Where+said.InternalQuery, planted, "the control: %s", sql)
		require.Contains(t, redact.Text(said, nil), strings.TrimSuffix(want, " "), sql)
		for how, err := range wrapped(said) {
			text := redact.Text(err, []*pgconn.PgError{said})
			require.NotContains(t, text, planted, "%s, %s", sql, how)
		}
		require.NotContains(t, redact.Text(fmt.Errorf("a: %w", errors.Join(errors.New("b"), fmt.Errorf("c: %w", said))), nil), planted)
	}
	for sql, want := range naming {
		said := ask(sql)
		require.Equal(t, want, redact.Text(said, nil), sql)
		require.Equal(t, "first: "+want, redact.Text(fmt.Errorf("first: %w", said), []*pgconn.PgError{said}))
	}
}

// wrapped is what a handler may make of an error.
func wrapped(said *pgconn.PgError) map[string]error {
	return map[string]error{
		"as it is":   said,
		"words":      fmt.Errorf("loading: %v", said), //nolint:errorlint // that is what is tried
		"message":    errors.New("loading: " + said.Message),
		"everything": fmt.Errorf("%s %s %s %s %s", said.Message, said.Detail, said.Hint, said.Where, said.InternalQuery),
		"twice":      fmt.Errorf("%w, and %w", said, said),
		"quoted":     fmt.Errorf("%q %+q", said.Message, said.Detail),
		"JSON":       errors.New(jsonOf(said)),
		"JSON twice": errors.New(jsonOf(jsonOf(said))),
	}
}

func jsonOf(v any) string {
	raw, _ := json.Marshal(v) // never fails
	return string(raw)
}

// An error that wraps itself ends the search.
func TestAnErrorThatWrapsItself(t *testing.T) {
	t.Parallel()
	require.Equal(t, "I wrap myself", redact.Text(ouroboros{}, nil))
}

type ouroboros struct{}

func (ouroboros) Error() string   { return "I wrap myself" }
func (o ouroboros) Unwrap() error { return o }

// Each name is the one that PL/pgSQL has for the code.
func TestConditions(t *testing.T) {
	t.Parallel()
	db := jobstest.New(t).Database("db", jobstest.DatabaseOpts{})
	file, err := os.Open("conditions.txt")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	codes := map[string][]string{} // by name
	for lines := bufio.NewScanner(file); lines.Scan(); {
		code, name, ok := strings.Cut(lines.Text(), " ")
		require.True(t, ok)
		codes[name] = append(codes[name], code)
	}
	require.Greater(t, len(codes), 200)
	// Of these not every version has each.
	someVersions := []string{"invalid_argument_for_xquery", "sql_json_item_cannot_be_cast_to_target_type", "transaction_timeout", "file_name_too_long", "snapshot_too_old"}
	for name, want := range codes {
		_, err := db.Pool.Exec(context.Background(), fmt.Sprintf(`DO $$BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '%s'; END$$`, name))
		var said *pgconn.PgError
		require.ErrorAs(t, err, &said, name)
		if said.Code == "42704" && name != "undefined_object" {
			require.Contains(t, someVersions, name)
			continue
		}
		require.Contains(t, want, said.Code, name)
	}
}

// Whatever stands around the server's words, they are gone, and the rest stays.
func TestTextAnywhere(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[a-z ]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[A-Z0-9@]{6,20}`).Draw(t, "secret")
		said := &pgconn.PgError{Severity: "ERROR", Code: rapid.SampledFrom([]string{"22P02", "P0001", "XX000", "38000", "HV000", "ABCDE"}).Draw(t, "code"),
			Message: "invalid: " + secret, Detail: "detail " + secret, Hint: "hint " + secret, Where: "where " + secret}
		before, after := "<"+word.Draw(t, "before")+">", "<"+word.Draw(t, "after")+">"
		parts := []string{said.Error(), said.Message, said.Detail, said.Hint, said.Where}
		text := redact.Text(errors.New(before+rapid.SampledFrom(parts).Draw(t, "part")+after), []*pgconn.PgError{said})
		require.NotContains(t, text, secret)
		require.True(t, strings.HasPrefix(text, before) && strings.HasSuffix(text, after), text)
	})
}
