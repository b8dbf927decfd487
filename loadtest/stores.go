package loadtest

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Stores asks an instance what its stores hold of the load's devices.
type Stores struct {
	HTTP  string // base URL
	Token string
}

// Messages returns how many of the load's messages SQL sees.
func (s Stores) Messages(ctx context.Context) (int64, error) {
	return s.number(ctx, "SELECT count(*) FROM device_messages WHERE device_type = 'LoadGenerator_v1'")
}

// Await waits until SQL sees as many messages as wanted, and every worker says that nothing is unread.
func (s Stores) Await(ctx context.Context, want int64) error {
	const every = 250 * time.Millisecond // the counting itself costs the instance something
	for {
		got, err := s.Messages(ctx)
		if err != nil {
			return err
		}
		if got >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages are visible: %w", got, want, ctx.Err())
		case <-time.After(every):
		}
	}
}

func (s Stores) number(ctx context.Context, query string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.HTTP+"/v1/sql", strings.NewReader(query))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Accept", "text/csv")
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	rows, err := csv.NewReader(resp.Body).ReadAll()
	if err != nil || resp.StatusCode != http.StatusOK || len(rows) != 2 {
		return 0, fmt.Errorf("%s: %s: %v: %w", query, resp.Status, rows, err)
	}
	return strconv.ParseInt(rows[1][0], 10, 64)
}
