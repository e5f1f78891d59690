package access

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Actor is who acts, as a program knows it. Every field may be empty.
type Actor struct {
	Name      string // a person or a program; 200 characters are kept
	Surface   string // the program by which it acts; "" is the session's application_name
	Reason    string // why; 500 characters are kept
	Operation string // a UUID that joins the changes of several transactions; "" is one for each transaction
}

type actorKey struct{}

// With returns a context whose changes are the actor's. Fields that are empty stay what
// they were.
func With(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a.or(From(ctx)))
}

// From returns the actor of a context.
func From(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

func (a Actor) or(b Actor) Actor {
	return Actor{cmp.Or(a.Name, b.Name), cmp.Or(a.Surface, b.Surface), cmp.Or(a.Reason, b.Reason), cmp.Or(a.Operation, b.Operation)}
}

const saySQL = `
SELECT set_config('headgate.actor', $1, true), set_config('headgate.surface', $2, true), set_config('headgate.reason', $3, true),
       CASE WHEN $4 <> '' THEN set_config('headgate.operation', $4, true) END`

// Say tells a transaction who acts from here on: the actor of ctx, with what a call says of
// name and reason. It counts until the transaction says otherwise, or ends.
func Say(ctx context.Context, tx pgx.Tx, name, reason string) error {
	a := Actor{Name: name, Reason: reason}.or(From(ctx))
	if _, err := tx.Exec(ctx, saySQL, a.Name, a.Surface, a.Reason, a.Operation); err != nil {
		return fmt.Errorf("saying who acts: %w", err)
	}
	return nil
}

const eventSQL = `
SELECT headgate.audit_event($1, $2, $3, $4, $5, coalesce((SELECT jsonb_agg(jsonb_build_object('field', key, 'before', NULL, 'after', value) ORDER BY key) FROM jsonb_each($6::jsonb)), '[]'))`

// Event is something done that changes no row which triggers record.
type Event struct {
	Object   string // schedule, tenant, …
	Action   string // its verb, lower-case letters
	Key      string // UUID or name of the object
	Name     string // as people know it
	TenantID string // UUID; "" is nobody's in particular
	Facts    map[string]any
}

// Record writes an event into the record, as the actor of ctx and name.
func Record(ctx context.Context, tx pgx.Tx, name string, e Event) error {
	if err := Say(ctx, tx, name, ""); err != nil {
		return err
	}
	var tenant *string
	if e.TenantID != "" {
		tenant = &e.TenantID
	}
	if _, err := tx.Exec(ctx, eventSQL, e.Object, e.Action, e.Key, e.Name, tenant, e.Facts); err != nil {
		return fmt.Errorf("recording the %s of %s %s: %w", e.Action, e.Object, e.Name, err)
	}
	return nil
}
