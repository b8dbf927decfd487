package pipeline

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestEachKindOfOddityNamesADeviceNowAndThen(t *testing.T) {
	var text bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	o := &oddities{
		log: slog.New(slog.NewTextHandler(&text, nil)), now: func() time.Time { return now },
		count: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "odd_total", Help: "Oddities."}, []string{"what"}),
	}
	for range 100 {
		o.note("decimal_comma", "noisy")
	}
	o.note("clock_ahead", "fast") // though another kind was named just now
	now = now.Add(oddityEvery)
	o.note("decimal_comma", "other")
	for _, want := range []string{"what=decimal_comma device=noisy messages=1\n", "what=clock_ahead device=fast messages=1\n", "what=decimal_comma device=other messages=100\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, text.String())
		}
	}
	if n := strings.Count(text.String(), "\n"); n != 3 {
		t.Errorf("%d lines, want 3", n)
	}
}
