package clickhouse

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/pkg/store"
)

// Mover is the worker whose rows are copies from another instance. They yield to what any other worker has written under the same
// key: positions of the other instance's log do not compare with ours.
const Mover = "move"

// writing is one write: its commit, and what names and orders its rows.
type writing struct {
	store  string
	commit store.Commit
	packed []int64 // beside the spans: Through, packed
	// version orders writes of one task as the log does. It is the sum of the positions: those of one task's spans only rise.
	version uint64
	hash    xxhash.Digest // of what tells rows from other rows, see token
	scratch [16]byte
}

func newWriting(l *lane, commit store.Commit) (*writing, error) {
	w := &writing{store: l.name, commit: commit, packed: make([]int64, len(commit.Spans))}
	for i, s := range commit.Spans {
		p, err := store.PackPosition(s.Through.Through)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", s.Partition, err)
		}
		w.packed[i] = p
		if commit.Worker != Mover {
			w.version += uint64(p) //nolint:gosec // packed positions are not negative
		}
	}
	w.hash.Reset()
	return w, nil
}

// mixOrigin takes the identity of a message into the hash: its other columns follow from that.
func (w *writing) mixOrigin(partition int32, position int64) {
	binary.LittleEndian.PutUint32(w.scratch[:], uint32(partition)) //nolint:gosec // bits
	binary.LittleEndian.PutUint64(w.scratch[4:], uint64(position)) //nolint:gosec // bits
	_, _ = w.hash.Write(w.scratch[:12])                            // never an error
}

func (w *writing) mixText(s string) {
	w.mixNumber(uint64(len(s)))
	_, _ = w.hash.WriteString(s) // never an error
}

func (w *writing) mixNumber(n uint64) {
	binary.LittleEndian.PutUint64(w.scratch[:], n)
	_, _ = w.hash.Write(w.scratch[:8]) // never an error
}

// token names a block of rows: worker, table, the exact range of the log, and which rows. The range alone would not do: a
// window that closes by the clock is written without the log having moved, and rows that were refused may be left out of
// the next try; ClickHouse drops a block whose token it knows without looking at it.
func (w *writing) token(table string, rows int) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %q %d %x", w.commit.Worker, table, rows, w.hash.Sum64()) // never an error
	for _, s := range w.commit.Spans {
		_, _ = fmt.Fprintf(h, " %q %d %v %v", s.Partition.Topic, s.Partition.Number, s.After, s.Through.Through)
	}
	return "millrace-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// digest names a text.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
