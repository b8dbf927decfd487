package check

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/millrace/millrace/pkg/books"
)

// Audit asks the deployment itself (GET /v1/audit) about everything since begin, until nothing is under way any more or patience is over,
// and holds its answer against the books as they were read from the log: it must balance, and count what is there. It returns
// what does not hold.
func Audit(ctx context.Context, s Source, b Books, begin time.Time, patience time.Duration) (faults []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var report books.Report
	for {
		if report, err = s.audit(ctx, begin); err == nil && !underWay(&report) {
			break
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("messages are still under way after %v: %+v", patience, report.Total)
			}
			return nil, err
		case <-time.After(time.Second):
		}
	}
	if !report.Balanced || !report.Complete {
		faults = append(faults, fmt.Sprintf("audit: balanced %t, complete %t: %q, %d devices, in total %+v", report.Balanced, report.Complete, report.Notes,
			report.DevicesTotal, report.Total))
		for _, breach := range report.Breaches[:min(len(report.Breaches), storiesMax)] {
			faults = append(faults, fmt.Sprintf("audit: %+v", breach))
		}
	}
	if ingested := b.Accepted - b.Written; report.Total.Accepted+report.Total.Uncounted != int64(ingested) {
		faults = append(faults, fmt.Sprintf("audit: %d accepted and %d uncounted, and %d messages on the log", report.Total.Accepted, report.Total.Uncounted, ingested))
	}
	return faults, nil
}

func underWay(r *books.Report) bool {
	if r.Total.Unread > 0 {
		return true
	}
	for _, s := range r.Stores {
		if s.OnTheWay > 0 {
			return true
		}
	}
	return false
}

func (s Source) audit(ctx context.Context, begin time.Time) (r books.Report, err error) {
	span := url.Values{"from": {begin.UTC().Format(time.RFC3339)}, "to": {time.Now().UTC().Add(time.Minute).Format(time.RFC3339)}}
	b, _, err := s.do(ctx, http.MethodGet, "/v1/audit?"+span.Encode(), "")
	if err != nil {
		return r, fmt.Errorf("audit: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("audit: %w", err)
	}
	return r, nil
}
