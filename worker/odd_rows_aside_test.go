package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

func (o *oddRows) exec(sql string) {
	o.t.Helper()
	_, err := o.Pool.Exec(context.Background(), sql)
	require.NoError(o.t, err)
}

func (o *oddRows) job(id int64) jobs.Record {
	o.t.Helper()
	job, err := o.Client.Job(context.Background(), o.uids[id])
	require.NoError(o.t, err)
	return job
}

// A row that the queue's own constraints do not let run is found among those that are
// claimed with it, and set aside alone; so is one that cannot be given back, ended or
// made available.
func TestARowThatCannotBeMovedIsSetAside(t *testing.T) {
	t.Parallel()
	for state, situations := range map[string][]situation{
		"running":   {situations[0], situations[1], situations[2], situations[3]},
		"available": {situations[1], situations[2], situations[3]},
		"completed": {situations[0], situations[3]},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			o := newOddRows(t)
			for range 3 {
				for _, s := range situations {
					columns := map[string]string{"tags": `'{poison}'`}
					for name, literal := range s.columns {
						columns[name] = literal
					}
					o.insert("poison "+s.name, columns)
				}
				o.insert("plain", nil)
			}
			if state == "running" {
				o.exec(`CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'it is "poison" to a trigger'; END $$;
CREATE TRIGGER poison BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.state = 'running' AND 'poison' = ANY (NEW.tags)) EXECUTE FUNCTION poison()`)
			}
			o.exec(fmt.Sprintf(`ALTER TABLE river_job ADD CONSTRAINT poison CHECK (state <> '%s' OR NOT 'poison' = ANY (tags)) NOT VALID`, state))
			o.work()
			o.othersGoOn(5)
			for id, what := range o.rows {
				if what == "plain" {
					require.Equal(t, jobs.Succeeded, o.Wait(o.job(id).UID).State)
					continue
				}
				if state == "completed" { // its effect is done, and its row cannot say so
					continue
				}
				outcome := o.Wait(o.job(id).UID)
				require.Equal(t, jobs.ClassBadArgs, outcome.Class, what)
				require.Contains(t, []string{"23514", "P0001"}, outcome.SQLState, what)
				require.Contains(t, outcome.Message, `"poison"`, what)
			}
			o.othersGoOn(2)
		})
	}
}

// A row that is set aside ends as cancelled also where another row, which was cancelled
// before, has its unique key in that state.
func TestAKeyIsInTheWayOfNoRowThatIsSetAside(t *testing.T) {
	t.Parallel()
	o := newOddRows(t)
	const cancelledOnly = `B'00000010'`
	o.insert("cancelled before", map[string]string{"state": `'cancelled'`, "finalized_at": `now()`, "unique_key": `'k'::bytea`, "unique_states": cancelledOnly})
	id, ok := o.insert("poison", map[string]string{"tags": `'{poison}'`, "unique_key": `'k'::bytea`, "unique_states": cancelledOnly})
	require.True(t, ok, "it waits, and its key does not count yet")
	o.exec(`ALTER TABLE river_job ADD CONSTRAINT poison CHECK (state <> 'running' OR NOT 'poison' = ANY (tags)) NOT VALID`)
	o.work()
	outcome := o.Wait(o.job(id).UID)
	require.Equal(t, jobs.Cancelled, outcome.State)
	require.Equal(t, jobs.ClassBadArgs, outcome.Class)
	require.Equal(t, jobs.Cancelled, o.job(id).State)
}

// watched is a log that is read while it is written.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *watched) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(line)
}

func (w *watched) count(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), text)
}

// What no row can do is no row's fault: all of them wait until it is mended.
func TestNoRowIsSetAsideForWhatStopsAll(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]string{
		"claim":     `CHECK (state <> 'running' OR attempted_by[1] LIKE '$dead%') NOT VALID`,
		"available": `CHECK (state <> 'available') NOT VALID`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOddRows(t)
			for _, s := range situations[:4] {
				if name != "available" || s.name != "available" {
					o.insert(s.name, s.columns)
				}
			}
			o.exec(`ALTER TABLE river_job ADD CONSTRAINT stop ` + strings.ReplaceAll(stop, "$dead", o.dead))
			var log watched
			o.log = lockedLogger(&log)
			w := o.work()
			require.Eventually(t, func() bool { // claims that fail are told once a minute, and counted
				failing := w.Health().Failing
				return log.count(`violates check constraint`) >= 5 || len(failing) > 0 && failing[0].Times >= 5
			}, time.Minute, 10*time.Millisecond)
			for id, what := range o.rows {
				require.NotEqual(t, jobs.Cancelled, o.job(id).State, what)
			}
			o.exec(`ALTER TABLE river_job DROP CONSTRAINT stop`)
			for id, what := range o.rows {
				require.Equal(t, jobs.Succeeded, o.Wait(o.job(id).UID).State, what)
			}
		})
	}
}

// Two rows with one unique key, which lets only one of them be in some state, delay
// nobody, whatever the state: one of them ends as bad_args, or as River has it.
func TestRowsInEachOthersWayDelayNobody(t *testing.T) {
	t.Parallel()
	o := newOddRows(t)
	for bit := range 8 {
		for _, s := range situations[:4] {
			for k := range 3 {
				mask := []byte("00000000")
				mask[bit] = '1'
				columns := map[string]string{"unique_key": fmt.Sprintf(`'%s %d'::bytea`, s.name, bit), "unique_states": "B'" + string(mask) + "'"}
				for name, literal := range s.columns {
					columns[name] = literal
				}
				o.insert(fmt.Sprintf("unique_key of bit %d %s %d", bit, s.name, k), columns)
			}
		}
	}
	o.work()
	o.othersGoOn(10)
	o.answered()
	o.ended()
	o.othersGoOn(2)
	var aside int
	require.NoError(t, o.Pool.QueryRow(context.Background(), `SELECT count(*) FROM headgate.outcomes WHERE class = 'bad_args' AND message LIKE '%column unique_key%'`).Scan(&aside))
	require.Positive(t, aside)
}

// A column that holds more than this program can read ends its row alone.
func TestARowThatCannotBeReadIsSetAside(t *testing.T) {
	t.Parallel()
	o := newOddRows(t)
	o.exec(`DROP VIEW headgate_api.jobs`) // it would keep the column as it is
	o.exec(`ALTER TABLE river_job ALTER COLUMN max_attempts TYPE bigint`)
	id, _ := o.insert("max_attempts", map[string]string{"max_attempts": "100000"})
	o.insert("plain", nil)
	o.work()
	o.othersGoOn(5)
	outcome := o.Wait(o.job(id).UID)
	require.Equal(t, jobs.Cancelled, outcome.State)
	require.Equal(t, jobs.ClassBadArgs, outcome.Class)
	require.Contains(t, outcome.Message, "max_attempts")
	o.othersGoOn(2)
}

// The end of a failed attempt goes to whatever stands in the row's errors.
func TestErrorsOfAnyFormTakeAnother(t *testing.T) {
	t.Parallel()
	o := newOddRows(t)
	for _, errors := range extremes("errors", "_jsonb", 0) {
		o.insert("args and errors "+errors, map[string]string{"errors": errors, "args": `'[1]'`})
	}
	o.work()
	o.othersGoOn(5)
	for id, what := range o.rows {
		job := o.job(id)
		require.Equal(t, jobs.Discarded, o.Wait(job.UID).State, what)
		var last string
		require.NoError(t, o.Pool.QueryRow(context.Background(), `SELECT errors[array_upper(errors, 1)]->>'error' FROM river_job WHERE id = $1`, id).Scan(&last), what)
		require.True(t, strings.Contains(last, "column args"), "%s: %s", what, last)
	}
}
