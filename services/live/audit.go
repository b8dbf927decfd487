package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/store/answer"
)

// Auditor holds the stores against the books; *books.Auditor is one.
type Auditor interface {
	Audit(ctx context.Context, q books.Query) (*books.Report, error)
}

// auditTimeout is how long one audit may take: it reads the books, and where stores differ from them the log.
const auditTimeout = 4 * time.Minute

// audit answers GET /v1/audit. One runs at a time.
func (l *Live) audit(w http.ResponseWriter, r *http.Request) error {
	p := l.query(r)
	var q books.Query
	var given [2]bool
	q.From, given[0] = p.time("from")
	q.To, given[1] = p.time("to")
	q.Device = p.text("device")
	q.Devices = p.limit(l.cfg.Query.PageRows)
	if len(p.errs) == 0 && (!given[0] || !given[1] || q.From >= q.To) {
		p.fault("from", "want from and to, the earlier first")
	}
	if err := p.done(); err != nil {
		return err
	}
	if l.deps.Audit == nil {
		return &fault{code: http.StatusNotImplemented, text: "this process cannot audit: ask the `millrace run` that has the stores, or the worker live"}
	}
	if !l.auditing.TryLock() {
		return &fault{code: http.StatusServiceUnavailable, text: "another audit is under way", retry: unreachableRetry}
	}
	defer l.auditing.Unlock()
	bounded, cancel := context.WithTimeout(r.Context(), auditTimeout)
	defer cancel()
	report, err := l.deps.Audit.Audit(bounded, q)
	switch {
	case err == nil:
	case errors.Is(err, books.ErrTooMuch):
		return fmt.Errorf("%w: %w", answer.ErrResources, err)
	case bounded.Err() != nil && r.Context().Err() == nil:
		return fmt.Errorf("%w: %v have passed; ask for less", answer.ErrTimeout, auditTimeout)
	default:
		return err
	}
	b, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	answerJSON(w, r, http.StatusOK, b)
	return nil
}
