package httpedge

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

// answer says what became of a body's records.
type answer struct {
	Accepted int        `json:"accepted"`
	Rejected []rejected `json:"rejected"`
	// RejectedTotal is there when more were rejected than are listed.
	RejectedTotal int `json:"rejected_total,omitempty"`
	// Error is the first fault, where nothing was accepted: for those who look for an error alone.
	Error string `json:"error,omitempty"`

	status int
}

type rejected struct {
	Index int    `json:"index"`
	Error string `json:"error"`
}

func answerOf(out *pipeline.Outcome) *answer {
	a := &answer{Accepted: out.Accepted, Rejected: []rejected{}, status: http.StatusAccepted}
	for i := range out.Rejected {
		if i == rejectedMax {
			a.RejectedTotal = len(out.Rejected)
			break
		}
		a.Rejected = append(a.Rejected, rejected{out.Rejected[i].Index, out.Rejected[i].Err.Error()})
	}
	if out.Accepted == 0 && len(out.Rejected) > 0 {
		a.status, a.Error = http.StatusBadRequest, a.Rejected[0].Error
		switch {
		case all(out.Rejected, pipeline.Foreign):
			a.status = http.StatusForbidden
		case all(out.Rejected, pipeline.TooLarge):
			a.status = http.StatusRequestEntityTooLarge
		}
	}
	return a
}

// all reports whether every record was rejected for the reason that is tells.
func all(rejected []telemetry.Rejected, is func(error) bool) bool {
	return !slices.ContainsFunc(rejected, func(r telemetry.Rejected) bool { return !is(r.Err) })
}

func (e *Edge) send(w http.ResponseWriter, a *answer) {
	e.answers.WithLabelValues(strconv.Itoa(a.status)).Inc()
	writeJSON(w, a.status, a)
}

func (e *Edge) fail(w http.ResponseWriter, f *failure) {
	e.answers.WithLabelValues(strconv.Itoa(f.status)).Inc()
	h := w.Header()
	if f.retry > 0 {
		h.Set("Retry-After", seconds(f.retry))
	}
	switch f.status {
	case http.StatusRequestTimeout, http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close") // else the server reads on before it answers
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="millrace"`)
	case http.StatusUnsupportedMediaType:
		h.Set("Accept-Encoding", "gzip, zstd")
	}
	writeJSON(w, f.status, struct {
		Error string `json:"error"`
	}{f.text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // numbers and strings
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

// sortProperties puts headers, which come in no order, into one, so that the same request makes the same message.
func sortProperties(props []telemetry.Property) {
	slices.SortStableFunc(props, func(a, b telemetry.Property) int { return strings.Compare(a.Key, b.Key) })
}
