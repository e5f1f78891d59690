package keycmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/keyfile"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// ring is where the key ring stands, and how a command may change it.
type ring struct {
	app   *cli.App
	file  string         // "" for a variable
	text  address.Secret // of the variable
	print bool           // write a variable's new value to stdout
}

// ringView is the shape of what changes of the ring print.
type ringView struct {
	Ring []string `json:"ring"`           // the ids, the sealing one first
	File string   `json:"file,omitempty"` // "" for a variable
}

var ringColumns = []cli.Column[ringView]{
	{Name: "ring", Of: func(v ringView) any { return v.Ring }},
	{Name: "file", Of: func(v ringView) any { return v.File }},
}

func (r *ring) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.print, "print", false, "for a ring in HEADGATE_KEY: write its new value to standard output, for a pipe into where secrets are kept")
}

// find says where the ring stands, and refuses what cannot be carried out.
func (r *ring) find() (err error) {
	if r.text, r.file, err = catalog.KeySource(r.app.Env); err != nil {
		return &cli.UsageError{Err: err}
	}
	if _, err := r.app.Keys(); err != nil {
		return err
	}
	switch {
	case r.file != "" && r.print:
		return cli.Usagef("--print: the ring is the file %s, which the command changes itself: leave the flag out", r.file)
	case r.file == "" && !r.print:
		return cli.Usagef("the ring is in the variable HEADGATE_KEY, which no command can change: add --print, which writes the new value to standard output, and pipe it into where the variable is set from; or keep the ring in a file (HEADGATE_KEY_FILE)")
	}
	return nil
}

// change edits the ring. Nothing is printed of a key but by --print.
func (r *ring) change(edit func(catalog.KeyList) (catalog.KeyList, error)) error {
	var changed catalog.KeyList
	do := func(text address.Secret) (address.Secret, error) {
		list, err := catalog.ParseKeyList(text)
		if err != nil {
			return text, err
		}
		if changed, err = edit(list); err != nil {
			return text, err
		}
		return changed.Text(r.file != ""), nil
	}
	if r.file == "" {
		text, err := do(r.text)
		if err != nil {
			return err
		}
		return r.app.Print("%s", text.Reveal())
	}
	if err := keyfile.Edit(r.file, do); err != nil {
		return fmt.Errorf("%s: %w", catalog.KeyFileVariable, err)
	}
	return cli.One(r.app, ringView{changed.IDs(), r.file}, ringColumns)
}

// spread says how the running processes come by the change.
func (r *ring) spread() string {
	if r.file == "" {
		return "give every process the new value and start it again"
	}
	return "processes on this machine read the file again by themselves; bring it to the other machines"
}

const keyAddLong = `Make a new random key and put it behind the others, where it opens and does not
seal yet. The id names the key for ever; without one the next free number is taken
(k2 after k1).

A key file (HEADGATE_KEY_FILE) is replaced whole. For a ring in HEADGATE_KEY give
--print: the new value goes to standard output, nothing else does.`

func oneIDAtMost(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return cli.Usagef("%q takes [ID] and no more, got %d arguments", cmd.CommandPath(), len(args))
	}
	return nil
}

func keyAdd(app *cli.App) *cobra.Command {
	r := ring{app: app}
	cmd := &cobra.Command{
		Use: "add [ID]", Short: "Add a new key behind the others", Long: keyAddLong, Args: oneIDAtMost,
		Example: "  headgate key add\n  headgate key add k2 --print | vault kv put secret/headgate key=-",
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			if err := r.find(); err != nil {
				return err
			}
			keys, err := r.known(ctx)
			if err != nil {
				return err
			}
			id := freeID(keys)
			if len(args) > 0 {
				id = args[0]
			}
			if n := slices.IndexFunc(keys, func(k catalog.KeyUse) bool { return k.ID == id }); n >= 0 {
				return cli.Usagef("id %s: a key of that id is known already (%s): an id names one key for ever; %s is free", cli.Quote(id), keys[n].State, freeID(keys))
			}
			if err := r.change(func(list catalog.KeyList) (catalog.KeyList, error) { return list.Add(id) }); err != nil {
				return err
			}
			app.Say("key %s is in the ring, and seals nothing yet", id)
			app.Say("next: keep a copy of it where backups are kept; %s; then `headgate key promote %s`", r.spread(), id)
			return nil
		}),
	}
	r.flag(cmd)
	return cmd
}

// known are the keys of the ring and of the central database.
func (r *ring) known(ctx context.Context) (keys []catalog.KeyUse, err error) {
	loaded, err := r.app.Keys()
	if err != nil {
		return nil, err
	}
	err = r.app.Open(ctx, loaded, func(central cli.Central) error {
		keys, err = catalog.NewKeys(central.Pool, loaded).List(ctx)
		return err
	})
	return keys, err
}

// freeID is the first of k1, k2 … that no key has had.
func freeID(keys []catalog.KeyUse) string {
	for n := 1; ; n++ {
		id := fmt.Sprint("k", n)
		if !slices.ContainsFunc(keys, func(k catalog.KeyUse) bool { return k.ID == id }) {
			return id
		}
	}
}

const keyPromoteLong = `Put a key of the ring in front, so that it seals what is stored from now on. Every
process must have the key before: jobs of a database whose address was sealed with
a key that a worker lacks wait there (class undecryptable) and use no attempt.`

func keyPromote(app *cli.App) *cobra.Command {
	r := ring{app: app}
	cmd := &cobra.Command{
		Use: "promote ID", Short: "Put a key in front, where it seals", Long: keyPromoteLong, Args: cli.Args("ID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			if err := r.find(); err != nil {
				return err
			}
			keys, err := r.known(ctx)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(keys, func(k catalog.KeyUse) bool { return k.ID == args[0] && k.State == catalog.KeyRetired }) {
				return fmt.Errorf("%w: %s may seal nothing any more; make a new one with `headgate key add`", catalog.ErrRetiredKey, args[0])
			}
			if err := r.change(func(list catalog.KeyList) (catalog.KeyList, error) { return list.Promote(args[0]) }); err != nil {
				return err
			}
			app.Say("key %s seals what is stored from now on", args[0])
			app.Say("next: %s; then `headgate key rekey` seals what there is with it", r.spread())
			return nil
		}),
	}
	r.flag(cmd)
	return cmd
}

const keyRetireLong = `Make the central database refuse whatever this key seals from now on, whichever
process tries, and take the key out of the ring. It is refused while anything is
sealed with the key, or while the ring has it first.

The key itself is not destroyed, because backups of the central database from before
the rekeying need it: it moves from a key file into FILE.retired. Delete it there when
no such backup is left.`

func keyRetire(app *cli.App) *cobra.Command {
	r := ring{app: app}
	params := catalog.RetireParams{Actor: app.Actor()}
	cmd := &cobra.Command{
		Use: "retire ID", Short: "Let a key seal nothing any more, and take it out of the ring", Long: keyRetireLong, Args: cli.Args("ID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			params.ID = args[0]
			if !params.DryRun {
				if err := r.find(); err != nil {
					return err
				}
			}
			loaded, err := app.Keys()
			if err != nil {
				return err
			}
			return app.Open(ctx, loaded, func(central cli.Central) error {
				return r.retire(ctx, catalog.NewKeys(central.Pool, loaded), loaded, params)
			})
		}),
	}
	r.flag(cmd)
	cmd.Flags().BoolVar(&params.DryRun, "dry-run", false, "only say whether that could be done")
	cmd.Flags().StringVar(&params.Actor, "actor", params.Actor, "who decides, for the record (default: $USER)")
	return cmd
}

func (r *ring) retire(ctx context.Context, keys *catalog.Keys, loaded *catalog.KeyRing, params catalog.RetireParams) error {
	known, err := keys.List(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(k catalog.KeyUse) bool { return k.ID == params.ID }) {
		return fmt.Errorf("%w %s: it has %s", catalog.ErrUnknownKey, cli.Quote(params.ID), strings.Join(loaded.IDs(), ", "))
	}
	if err := keys.Retire(ctx, params); err != nil {
		return err
	}
	if params.DryRun {
		r.app.Say("key %s can be retired", params.ID)
		cli.SayDryRun(r.app, "")
		return nil
	}
	r.app.Say("key %s is retired: the central database refuses what it seals", params.ID)
	if err := r.change(func(list catalog.KeyList) (catalog.KeyList, error) { return r.take(list, params.ID) }); err != nil {
		return fmt.Errorf("key %s is retired, and still in the ring: %w", params.ID, err)
	}
	if r.file == "" {
		r.app.Say("next: %s; keep the old value for as long as backups of the central database from before are kept", r.spread())
		return nil
	}
	r.app.Say("next: %s; delete %s when no backup of the central database from before is left", r.spread(), retiredFile(r.file))
	return nil
}

func retiredFile(file string) string { return file + ".retired" }

// take takes a key out of the ring. It is in the other file before it leaves this one.
func (r *ring) take(list catalog.KeyList, id string) (catalog.KeyList, error) {
	rest, key, err := list.Remove(id)
	if errors.Is(err, catalog.ErrUnknownKey) { // taken out before
		return list, nil
	}
	if err != nil || r.file == "" {
		return rest, err
	}
	return rest, keyfile.Append(retiredFile(r.file), address.NewSecret(key.Reveal()+"\n"))
}
