package jobstest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
)

// zeroID marks a template's identity row until a clone gets its own.
const zeroID = "00000000-0000-0000-0000-000000000000"

// templateOwner owns everything in tenant templates; a clone's owner takes over.
const templateOwner = "headgate_template_owner"

func (p *Postgres) centralTemplate(t testing.TB) string {
	return p.template(t, "hgt_central_"+migrations.Fingerprint(), "", func(ctx context.Context, conn *pgx.Conn) error {
		_, err := migrations.Up(ctx, conn, nil)
		return err
	})
}

func (p *Postgres) tenantTemplate(t testing.TB, schema, encoding string) string {
	sum := sha256.Sum256([]byte(encoding + schema))
	name := fmt.Sprintf("hgt_tenant_%s_%s", migrations.Fingerprint(), hex.EncodeToString(sum[:6]))
	return p.template(t, name, encoding, func(ctx context.Context, conn *pgx.Conn) error {
		if err := migrations.PrepareServer(ctx, conn); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, becomeTemplateOwner); err != nil {
			return err
		}
		if _, err := migrations.UpTenant(ctx, conn, zeroID, nil); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, schema)
		return err
	})
}

const becomeTemplateOwner = `
DO $$ BEGIN CREATE ROLE ` + templateOwner + ` NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO ` + templateOwner + `', current_database()); END $$;
GRANT ALL ON SCHEMA public TO ` + templateOwner + `;
SET ROLE ` + templateOwner

// template returns the name of a template database, made by fill if it is not
// there yet. Tests and processes that want the same one wait for each other.
func (p *Postgres) template(t testing.TB, name, encoding string, fill func(context.Context, *pgx.Conn) error) string {
	t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	root := p.connect(ctx, t, "postgres")
	defer func() { _ = root.Close(ctx) }()
	must := func(_ any, err error) {
		if err != nil {
			t.Fatalf("making template %s: %v", name, err)
		}
	}
	must(root.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended($1, 0))`, name)) // ends with the connection
	var there bool
	must(nil, root.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there))
	if there {
		return name
	}
	draft := name + "_draft"
	must(root.Exec(ctx, `DROP DATABASE IF EXISTS `+draft+` WITH (FORCE)`))
	create := `CREATE DATABASE ` + draft
	if encoding != "" {
		create += fmt.Sprintf(` TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'`, encoding)
	}
	must(root.Exec(ctx, create))
	conn := p.connect(ctx, t, draft)
	err := fill(ctx, conn)
	must(nil, conn.Close(ctx))
	must(nil, err)
	must(root.Exec(ctx, `ALTER DATABASE `+draft+` IS_TEMPLATE true ALLOW_CONNECTIONS false`))
	must(root.Exec(ctx, `ALTER DATABASE `+draft+` RENAME TO `+name))
	return name
}

// EmptyDatabase makes an empty database that is dropped when the test ends, and
// returns its name; see [ServerURL].
func EmptyDatabase(t testing.TB) string {
	t.Helper()
	name := "hg_" + random(6)
	testServer(t).clone(t, "template0", name)
	return name
}

// clone copies a template and drops the copy when the test ends.
func (p *Postgres) clone(t testing.TB, template, name string) {
	t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	root := p.connect(ctx, t, "postgres")
	defer func() { _ = root.Close(ctx) }()
	create := fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name, template)
	if !strings.HasPrefix(root.PgConn().ParameterStatus("server_version"), "14") {
		create += ` STRATEGY file_copy` // faster for a small template; before 15 the only one, without a name
	}
	if _, err := root.Exec(ctx, create); err != nil {
		t.Fatalf("cloning %s: %v", template, err)
	}
	t.Cleanup(func() {
		if !keep(t) {
			p.admin(t, "postgres", `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
		}
	})
}
