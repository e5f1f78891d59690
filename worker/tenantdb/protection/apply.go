package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/session"
)

// ForeignError is of a plan of which another role must run a part. Nothing has been changed,
// except that these roles may use schema headgate now, which their part needs.
type ForeignError struct{ Roles []string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the owner login has not the rights of %s, to whom tables belong: have that role run its part of what --dry-run prints, then run the command again", strings.Join(e.Roles, ", "))
}

const setLockTimeout = `SELECT pg_catalog.set_config('lock_timeout', $1, true)`

// Apply does what [MakePlan] says, on the owner login's connection: all of it in one
// transaction that waits for no table longer than two seconds, and looks before it commits
// whether what was asked for is closed. It changes no table if that is not so, if a role other than
// the owner login must run a part ([*ForeignError]), or if a table is in use (SQLSTATE 55P03).
//
// The plan's Path is left to the caller, who has the job login's connection.
func Apply(ctx context.Context, conn Beginner, req Request) (plan Plan, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: session.Begin})
	if err != nil {
		return plan, fmt.Errorf("protecting: %w", err)
	}
	defer func() { err = errors.Join(err, rollback(ctx, tx)) }()
	if _, err := tx.Exec(ctx, setLockTimeout, lockTimeout); err != nil {
		return plan, fmt.Errorf("protecting: %w", err)
	}
	if plan, err = makePlan(ctx, tx, req); err != nil {
		return plan, err
	}
	if foreign := plan.Foreign(); len(foreign) > 0 {
		for _, s := range plan.Before {
			if _, err := tx.Exec(ctx, s.SQL); err != nil {
				return plan, fmt.Errorf("running %s: %w", s.SQL, err)
			}
		}
		if err := tx.Commit(ctx); err != nil {
			return plan, fmt.Errorf("protecting: %w", err)
		}
		return plan, &ForeignError{foreign}
	}
	for _, s := range plan.Statements {
		if _, err := tx.Exec(ctx, s.SQL); err != nil {
			return plan, fmt.Errorf("running %s: %w", s.SQL, err)
		}
	}
	if err := verify(ctx, tx, req, plan); err != nil {
		return plan, err
	}
	if err := tx.Commit(ctx); err != nil {
		return plan, fmt.Errorf("protecting: %w", err)
	}
	return plan, nil
}

// verify looks within the transaction whether what was asked for is closed.
func verify(ctx context.Context, tx pgx.Tx, req Request, plan Plan) error {
	servers, err := enter(ctx, tx)
	if err != nil {
		return err
	}
	s, err := look(ctx, tx, Options{Database: req.Database, Login: req.Login}, servers, []uint32{})
	if err != nil {
		return err
	}
	asked := slices.Clone(plan.objects)
	for _, f := range s.functions { // findings have another name of these
		if slices.Contains(asked, f.Name) {
			asked = append(asked, f.Shown)
		}
	}
	for _, f := range s.judge(Options{}) {
		if f.Level == Open && slices.Contains(asked, f.Object) {
			return refuse("nothing is changed, because %s would still be open: %s; next: %s", f.Object, f.Says, f.Next)
		}
	}
	return nil
}
