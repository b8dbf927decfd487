package feed_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/pkg/feed"
)

func TestAHubThatHasEndedStaysEnded(t *testing.T) {
	hub, stop := start(t, newLog(1), feed.DefaultConfig(), nil)
	stop()
	for range 2 { // whoever starts what has failed again asks more than once
		if err := hub.Run(t.Context()); !errors.Is(err, feed.ErrClosed) {
			t.Errorf("run again: %v, want ErrClosed", err)
		}
	}
	if _, err := hub.Subscribe(t.Context(), feed.Filter{}, ""); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("subscribe: %v, want ErrClosed", err)
	}
}
