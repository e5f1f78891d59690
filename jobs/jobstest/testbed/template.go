package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// keptOwner owns everything in the tenant templates that stay on a server.
const keptOwner = "headgate_template_owner"

// template is a database that others are cloned from.
type template struct {
	name     string
	encoding string // "" means the server's
	kept     bool   // it stays on the server
	fill     func(context.Context, *pgx.Conn) error
}

// centralTemplate returns the name of the template of central databases that stays on
// the server.
func (s *Server) centralTemplate(ctx context.Context) (string, error) {
	return s.template(ctx, template{name: "hgt_central_" + migrations.Fingerprint(), kept: true, fill: up})
}

// tenantTemplate returns the name of a template of tenant databases, and the role that
// owns what is in it. A clone's owner takes over.
func (b *Bed) tenantTemplate(ctx context.Context, s *Server, schema, encoding string) (name, owner string, err error) {
	sum := sha256.Sum256([]byte(encoding + schema))
	short := hex.EncodeToString(sum[:6])
	name, owner = fmt.Sprintf("hgt_tenant_%s_%s", migrations.Fingerprint(), short), keptOwner
	if !s.KeepTemplates {
		name, owner = b.prefix+"_template_"+short, b.prefix+"_template"
		b.ownTemplate(s, name, owner)
	}
	name, err = s.template(ctx, template{name: name, encoding: encoding, kept: s.KeepTemplates, fill: func(ctx context.Context, conn *pgx.Conn) error {
		if err := migrations.PrepareServer(ctx, conn); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, becomeOwner(owner)); err != nil {
			return err
		}
		if _, err := migrations.UpTenant(ctx, conn, migrations.Identity{DatabaseID: uuid.Nil.String(), SigningKey: catalog.NewSigningKey()}, nil); err != nil { // until a clone gets its own
			return err
		}
		if _, err := conn.Exec(ctx, schema); err != nil {
			return fmt.Errorf("creating the schema: %w", err)
		}
		return nil
	}})
	return name, owner, err
}

// ownTemplate makes Close remove a template, and after all templates of the server their
// owner.
func (b *Bed) ownTemplate(s *Server, name, owner string) {
	b.once(s.name()+" "+owner, func() {
		b.dropLater(&b.undo, s, func(ctx context.Context) error { return s.dropRole(ctx, owner) })
	})
	b.once(s.name()+" "+name, func() {
		b.dropLater(&b.undo, s, func(ctx context.Context) error { return errors.Join(s.Drop(ctx, draftOf(name)), s.Drop(ctx, name)) })
	})
}

func becomeOwner(owner string) string {
	return fmt.Sprintf(`
DO $$ BEGIN CREATE ROLE %[1]s NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %%I TO %[1]s', current_database()); END $$;
GRANT ALL ON SCHEMA public TO %[1]s;
SET ROLE %[1]s`, quote(owner))
}

func draftOf(name string) string { return name + "_draft" }

// template makes a template unless it is there. Goroutines and processes that want the
// same template wait for each other. It gets its name when it is whole.
func (s *Server) template(ctx context.Context, t template) (string, error) {
	err := s.On(ctx, admin, func(root *pgx.Conn) error {
		if _, err := root.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended($1, 0))`, t.name); err != nil { // ends with the connection
			return err
		}
		var there bool
		if err := root.QueryRow(ctx, selectDatabase, t.name).Scan(&there); err != nil || there {
			return err
		}
		return s.makeTemplate(ctx, root, t)
	})
	if err != nil {
		return "", fmt.Errorf("making template %s: %w", t.name, err)
	}
	return t.name, nil
}

func (s *Server) makeTemplate(ctx context.Context, root *pgx.Conn, t template) error {
	draft := draftOf(t.name)
	empty := `CREATE DATABASE ` + quote(draft)
	if t.encoding != "" {
		empty += fmt.Sprintf(` TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'`, t.encoding)
	}
	for _, sql := range []string{dropDatabase(draft), empty} {
		if err := execWhole(ctx, root, sql); err != nil {
			return err
		}
	}
	if err := s.On(ctx, draft, func(conn *pgx.Conn) error { return t.fill(ctx, conn) }); err != nil {
		return err
	}
	for _, sql := range []string{
		fmt.Sprintf(`ALTER DATABASE %s IS_TEMPLATE %t ALLOW_CONNECTIONS false`, quote(draft), t.kept),
		`ALTER DATABASE ` + quote(draft) + ` RENAME TO ` + quote(t.name),
	} {
		if err := execWhole(ctx, root, sql); err != nil {
			return err
		}
	}
	return nil
}

func execWhole(ctx context.Context, conn *pgx.Conn, sql string) error {
	ctx, cancel := whole(ctx)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return err
}
