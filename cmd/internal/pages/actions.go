package pages

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/admission"
)

// actWithin bounds what one request may take to change things.
const actWithin = 20 * time.Second

// maxIDs is how many jobs one request may be about, as in River's UI.
const maxIDs = 1000

// ids are the jobs that River's UI asks to change: numbers, or numbers as texts.
type ids []int64

func (list *ids) UnmarshalJSON(raw []byte) error {
	var numbers []json.RawMessage
	if err := json.Unmarshal(raw, &numbers); err != nil {
		return err
	}
	for _, number := range numbers {
		text := string(number)
		if err := json.Unmarshal(number, &text); err != nil {
			text = string(number)
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%.40q is no number of a job", text)
		}
		*list = append(*list, n)
	}
	return nil
}

const uidsOfRowsSQL = `
SELECT j.id, headgate.job_uid(j.metadata, j.id, j.created_at)::text FROM river_job j WHERE j.id = ANY ($1::bigint[])`

// each does something to the jobs that a request names, one after another, each by itself.
// What cannot be done to one keeps none of the others from it; the answer tells of the first.
func (u *riverUI) each(w http.ResponseWriter, r *http.Request, done string, do func(ctx context.Context, uid string) error) {
	var request struct {
		IDs ids `json:"ids"`
	}
	body, err := io.ReadAll(r.Body) // which has a bound
	if err == nil {
		err = wire.DecodeArgs(body, &request, true) // one value, and each name once
	}
	if err != nil || len(request.IDs) == 0 || len(request.IDs) > maxIDs {
		refuse(w, r, http.StatusBadRequest, fmt.Sprintf(`give {"ids": ["1", "2"]}, the numbers of 1 to %d jobs`, maxIDs))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actWithin)
	defer cancel()
	uids, err := u.uids(ctx, request.IDs)
	if err != nil {
		u.failed(w, r, err)
		return
	}
	well, first := 0, error(nil)
	for _, id := range request.IDs {
		if uid, there := uids[id]; !there {
			err = fmt.Errorf("%w: no job has the number %d", jobs.ErrUnknownJob, id)
		} else {
			err = do(ctx, uid)
		}
		if err == nil {
			well++
		}
		first = cmp.Or(first, err)
	}
	switch {
	case first == nil:
		writeOK(w)
	case len(request.IDs) == 1:
		u.failed(w, r, first)
	default:
		u.failedAfter(w, r, fmt.Sprintf("%d of %d jobs were %s; ", well, len(request.IDs), done), first)
	}
}

func (u *riverUI) uids(ctx context.Context, of ids) (map[int64]string, error) {
	rows, err := u.pool.Query(ctx, uidsOfRowsSQL, []int64(of))
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", jobs.Count(len(of), "job"), err)
	}
	uids := map[int64]string{}
	var id int64
	var uid string
	if _, err := pgx.ForEachRow(rows, []any{&id, &uid}, func() error { uids[id] = uid; return nil }); err != nil {
		return nil, fmt.Errorf("looking for %s: %w", jobs.Count(len(of), "job"), err)
	}
	return uids, nil
}

// failed answers with the sentence of an error that is the request's own; of any other the
// log has the text.
func (u *riverUI) failed(w http.ResponseWriter, r *http.Request, err error) {
	u.failedAfter(w, r, "", err)
}

// failedAfter is failed where something has been done before.
func (u *riverUI) failedAfter(w http.ResponseWriter, r *http.Request, before string, err error) {
	code, says := http.StatusConflict, err.Error()
	switch {
	case errors.Is(err, jobs.ErrUnknownJob):
		code = http.StatusNotFound
	case errors.Is(err, jobs.ErrJobFinished), errors.Is(err, jobs.ErrRetryRefused):
	default:
		code, says = http.StatusInternalServerError, "the central database did not do it; the log of this process says why"
		u.log.ErrorContext(r.Context(), "a page could not do what it was asked for", "path", r.URL.Path, "error", err)
	}
	refuse(w, r, code, before+says)
}

func writeOK(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write([]byte(`{"status":"ok"}`)) // who asked may be gone
}

func (u *riverUI) cancel(w http.ResponseWriter, r *http.Request) {
	u.each(w, r, "cancelled", func(ctx context.Context, uid string) error {
		_, err := u.central.Client.Cancel(ctx, uid, &jobs.CancelOpts{Actor: u.actor, Reason: "asked for in River's UI"})
		return err
	})
}

func (u *riverUI) retry(w http.ResponseWriter, r *http.Request) {
	u.each(w, r, "retried", func(ctx context.Context, uid string) error {
		_, err := u.central.Client.Retry(ctx, uid)
		return err
	})
}

func (u *riverUI) delete(w http.ResponseWriter, r *http.Request) {
	refuse(w, r, http.StatusForbidden, "jobs are not deleted by hand, because a row that is gone can neither be cancelled nor tried again: cancel the job; its row goes by itself some time after its end")
}

// resume ends both pauses that a queue may have: River's own, which the pages make, and the
// one of headgate pause.
func (u *riverUI) resume(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), actWithin)
	defer cancel()
	if _, err := u.central.Admission.Resume(ctx, admission.OfQueue, r.PathValue("name")); err != nil && !errors.Is(err, admission.ErrNotPaused) {
		u.failed(w, r, err)
		return
	}
	u.asRiverSays(w, r)
}
