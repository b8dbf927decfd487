package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/enginetest"
)

// A member that finishes what is in hand comes to no new deal of its group. When the others have waited for it long enough its share is
// theirs, and it must hear of that before it commits.
func TestAMemberThatLeavesHearsThatItsShareWentToAnother(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	cfg := kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 1}
	heir := openLog(t, cfg)
	var said lockedText
	cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	leaver := openLog(t, cfg)

	ctx, leave := context.WithCancel(within(t))
	defer leave()
	begun, finish, committed, left := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		left <- leaver.Subscribe(ctx, "g", []string{bus.Ingested}, func(_ context.Context, s bus.Share) error {
			close(begun)
			<-finish
			committed <- s.Partitions[0].Commit(within(t), bus.Progress{Through: bus.Position{Seq: 1}})
			return nil
		})
	}()
	<-begun
	leave()
	owning, end := context.WithCancel(within(t))
	defer end()
	taken, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- heir.Subscribe(owning, "g", []string{bus.Ingested}, func(ctx context.Context, _ bus.Share) error {
			close(taken)
			<-ctx.Done()
			return nil
		})
	}()
	<-taken
	await(within(t), t, "the leaver hears of it", func() bool { return strings.Contains(said.String(), "lost the shares of a group") })
	close(finish)
	if err := <-committed; !errors.Is(err, bus.ErrLost) {
		t.Errorf("its commit: %v, want ErrLost", err)
	}
	end()
	if err := errors.Join(<-left, <-ended); err != nil {
		t.Error(err)
	}
}
