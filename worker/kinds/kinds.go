// Package kinds says in the central database which kinds a worker process has, and what a
// job of each has to bring along: headgate.enqueue, which other languages call, holds its
// arguments against that.
//
//	FormOf    what there is to say of a kind: its required arguments, scope, queue, …
//	Publish   writes it, and renews it while the process lives
//
// Its weakness: what is required is read off the zero value of the kind's struct. A type
// that makes its own JSON, or whose zero value does not encode, requires nothing.
package kinds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// Form is what a worker's program says of a kind. Two versions of a program may have two
// forms of one kind.
type Form struct {
	Kind     string   `json:"kind"`
	Required []string `json:"required"` // the top-level arguments that the Go client always writes, sorted
	Scope    string   `json:"scope"`    // tenant or database
	Login    string   `json:"login"`    // job or owner
	wire.Choices
}

// mostRequired bounds the list of a struct that has more fields.
const mostRequired = 200

// FormOf reads the form of a kind off any value of its struct.
func FormOf(like jobs.Args) Form {
	opts := jobs.KindOptsOf(like)
	return Form{
		Kind: like.Kind(), Required: requiredOf(like), Scope: opts.Scope.String(), Login: opts.Login.String(),
		Choices: wire.Choices{}.Complete(opts),
	}
}

// requiredOf are the fields that encoding/json writes of the zero value: those that say
// neither omitempty nor omitzero.
func requiredOf(like jobs.Args) (names []string) {
	defer func() {
		if recover() != nil { // a field's own code, which expects a value
			names = []string{}
		}
	}()
	t := reflect.TypeOf(like)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	zero := reflect.New(t).Interface()
	if _, own := zero.(json.Marshaler); own {
		return []string{}
	}
	raw, err := json.Marshal(zero)
	var fields map[string]json.RawMessage
	if err != nil || json.Unmarshal(raw, &fields) != nil {
		return []string{}
	}
	names = slices.AppendSeq([]string{}, maps.Keys(fields))
	slices.Sort(names)
	return names[:min(len(names), mostRequired)]
}

// digest tells one form of a kind from another.
func (f Form) digest() (string, error) {
	text, err := json.Marshal(f)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), err
}

// published is a form as its row has it.
type published struct {
	Form
	Digest string `json:"form"`
}

// publishSQL writes forms, or renews those whose time is half over: of many processes that
// have one form, one writes in that time. Rows are taken in their order, so that two
// processes do not wait for each other.
const publishSQL = `
INSERT INTO headgate.kinds AS k (kind, form, required, scope, login, queue, priority, max_attempts, alive_until)
SELECT n.kind, n.form, n.required, n.scope, n.login, n.queue, n.priority, n.max_attempts, now() + $2::interval
FROM jsonb_to_recordset($1) AS n (kind text, form text, required text[], scope text, login text, queue text, priority smallint, max_attempts smallint)
WHERE NOT EXISTS (SELECT FROM headgate.kinds h WHERE h.kind = n.kind AND h.form = n.form AND h.alive_until > now() + $2::interval / 2)
ORDER BY n.kind, n.form
ON CONFLICT (kind, form) DO UPDATE
SET alive_until = greatest(k.alive_until, excluded.alive_until), published_at = CASE WHEN k.alive_until < now() THEN now() ELSE k.published_at END`

// Publish says that this process has these kinds. It holds for a time, so that it has to be
// said again after less than half of that.
func Publish(ctx context.Context, db *pgxpool.Pool, forms []Form, lasts time.Duration) error {
	list := make([]published, len(forms))
	for i, f := range forms {
		digest, err := f.digest()
		if err != nil {
			return fmt.Errorf("encoding the form of kind %s: %w", f.Kind, err)
		}
		list[i] = published{f, digest}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encoding the forms of %s: %w", jobs.Count(len(forms), "kind"), err)
	}
	if _, err := db.Exec(ctx, publishSQL, text, lasts); err != nil {
		return fmt.Errorf("publishing %s: %w", jobs.Count(len(forms), "kind"), err)
	}
	return nil
}
