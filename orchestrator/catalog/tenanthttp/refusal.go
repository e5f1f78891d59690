package tenanthttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Refusal says why a request has no tenant to go on with. The Message is for
// people and tells nothing of the inside; Err is for logs.
type Refusal struct {
	Status     int            // 400, 403, 404, 423 or 503
	Code       string         // no_tenant, tenant_mismatch, unknown_tenant, tenant_suspended, tenant_moving or unavailable
	Message    string         // one sentence
	RetryAfter time.Duration  // 0: it is of no use
	Tenant     catalog.Tenant // the one that is suspended or moving, else zero
	Err        error
}

func refusalOf(err error, tenant catalog.Tenant, retryAfter time.Duration) Refusal {
	switch {
	case errors.Is(err, ErrMismatch): // before what the mismatch may have come from
		return Refusal{Status: http.StatusForbidden, Code: "tenant_mismatch", Message: "The request is not for this tenant.", Err: err}
	case errors.Is(err, jobs.ErrNoTenant):
		return Refusal{Status: http.StatusBadRequest, Code: "no_tenant", Message: "The request does not say which tenant it is for.", Err: err}
	case errors.Is(err, jobs.ErrUnknownTenant):
		return Refusal{Status: http.StatusNotFound, Code: "unknown_tenant", Message: "There is no such tenant.", Err: err}
	case errors.Is(err, jobs.ErrTenantMoving):
		return Refusal{Status: http.StatusLocked, Code: "tenant_moving", Message: "This tenant is being moved; try again shortly.",
			RetryAfter: retryAfter, Tenant: tenant, Err: err}
	case errors.Is(err, jobs.ErrTenantSuspended):
		return Refusal{Status: http.StatusLocked, Code: "tenant_suspended", Message: "This tenant is suspended.", Tenant: tenant, Err: err}
	}
	return Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", Message: "It cannot be found out now which tenant this is; try again shortly.",
		RetryAfter: retryAfter, Err: err}
}

// WriteRefusal answers with the status and the message: as JSON,
// {"error": {"code": "unknown_tenant", "message": "There is no such tenant."}}, if
// the request accepts that by name, else as plain text. Nobody may cache it.
func WriteRefusal(w http.ResponseWriter, r *http.Request, refusal Refusal) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if refusal.RetryAfter > 0 {
		seconds := (refusal.RetryAfter + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if !strings.Contains(r.Header.Get("Accept"), "application/json") {
		http.Error(w, refusal.Message, refusal.Status)
		return
	}
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = refusal.Code, refusal.Message
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(refusal.Status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone reads no answer
}
