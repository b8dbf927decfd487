package storetest

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/pkg/store"
)

// checkpointPromises are those of store.Checkpoints, and of Commit.Checkpoint.
func checkpointPromises[Row any](t *testing.T, open func(t *testing.T) harness[Row]) {
	read := func(t *testing.T, h harness[Row], task string) []byte {
		t.Helper()
		c, ok := h.Writer.(store.Checkpoints)
		if !ok {
			t.Fatalf("%T keeps no checkpoints", h.Writer)
		}
		state, known, err := c.Checkpoint(t.Context(), worker, task)
		if err != nil {
			t.Fatalf("checkpoint of task %s: %v", task, err)
		}
		if !known {
			return nil
		}
		return append([]byte("="), state...)
	}
	want := func(t *testing.T, h harness[Row], task string, state []byte) {
		t.Helper()
		if got := read(t, h, task); !bytes.Equal(got, state) {
			t.Errorf("checkpoint of task %s is %.40q (%d bytes), want %.40q (%d)", task, got, len(got), state, len(state))
		}
	}
	write := func(t *testing.T, h harness[Row], p, after int, task string, state []byte) {
		t.Helper()
		c := commit(span(p, after, after+1))
		c.Task, c.Checkpoint = task, state
		mustWrite(t, h, c, rowsOf(h, p*1000+after*10, p*1000+after*10+10))
	}
	big := func(b byte) []byte { return bytes.Repeat([]byte{b, 0, 'x'}, 1<<20) }
	t.Run("there is no checkpoint before the first", func(t *testing.T) { want(t, open(t), "1", nil) })
	t.Run("a checkpoint is that of the newest commit that had one", func(t *testing.T) {
		h := open(t)
		write(t, h, 0, 0, "0", []byte("a"))
		write(t, h, 0, 1, "0", []byte("b"))
		write(t, h, 0, 2, "0", nil)
		write(t, h, 1, 0, "1", []byte{})
		want(t, h, "0", []byte("=b"))
		want(t, h, "1", []byte("="))
		h = h.crash(t)
		want(t, h, "0", []byte("=b"))
		want(t, h, "1", []byte("="))
	})
	t.Run("a checkpoint may be large", func(t *testing.T) {
		h := open(t)
		write(t, h, 0, 0, "0", big(1))
		write(t, h, 0, 1, "0", big(2))
		want(t, h, "0", append([]byte("="), big(2)...))
		h = h.crash(t)
		want(t, h, "0", append([]byte("="), big(2)...))
		write(t, h, 0, 2, "0", []byte("small"))
		write(t, h, 1, 0, "1", big(3))
		h = h.crash(t)
		want(t, h, "0", []byte("=small"))
		want(t, h, "1", append([]byte("="), big(3)...))
	})
	t.Run("the checkpoint of a write that was fenced or repeated is not kept", func(t *testing.T) {
		h := open(t)
		write(t, h, 0, 0, "0", []byte("a"))
		write(t, h, 0, 1, "0", []byte("b"))
		c := commit(span(0, 0, 1))
		c.Task, c.Checkpoint = "0", []byte("zombie")
		if err := h.Write(t.Context(), c, nil); err == nil {
			t.Error("a stale write was taken")
		}
		write(t, h, 0, 1, "0", []byte("b"))
		want(t, h, "0", []byte("=b"))
	})
}
