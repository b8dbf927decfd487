package httpedge

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/services/ingest/internal/memory"
)

const (
	readAtOnce   = 64 << 10
	bufferKeep   = 1 << 20 // of a buffer that is used again, for a body that says that it is large
	windowMax    = 8 << 20 // of a zstd frame
	windowLeast  = 64 << 10
	gzipMemory   = 64 << 10
	encodingsMax = 1 // who compresses twice has something else in mind
)

// body reads a request's body within the limits: of its size as it comes, of what it unpacks to, and of all bodies together.
type body struct {
	edge  *Edge
	who   string // whose share of the memory it takes
	bytes []byte
	taken int64 // of the edge's memory
}

func (b *body) read(w http.ResponseWriter, r *http.Request) *failure {
	limit := b.edge.cfg.BodyBytesMax
	if r.ContentLength > limit {
		return fault(http.StatusRequestEntityTooLarge, "body of %d bytes, want at most %d", r.ContentLength, limit)
	}
	raw := http.MaxBytesReader(w, r.Body, limit)
	plain, window, done, fail := unpack(raw, r.Header.Values("Content-Encoding"))
	if fail != nil {
		return fail
	}
	defer done()
	if window > 0 {
		if err := b.edge.deps.Memory.Take(b.who, window); err != nil {
			return b.busy(err)
		}
		defer b.edge.deps.Memory.Give(b.who, window)
	}
	for {
		if int64(len(b.bytes)) > limit {
			return fault(http.StatusRequestEntityTooLarge, "body unpacks to more than %d bytes", limit)
		}
		if cap(b.bytes)-len(b.bytes) < readAtOnce/8 {
			b.grow()
		}
		if fail := b.account(); fail != nil {
			return fail
		}
		n, err := plain.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if errors.Is(err, io.EOF) && int64(len(b.bytes)) <= limit {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return readFailure(err, limit)
		}
	}
}

func (b *body) grow() {
	bigger := make([]byte, len(b.bytes), max(readAtOnce, 2*cap(b.bytes)))
	copy(bigger, b.bytes)
	b.bytes = bigger
}

// account counts the buffer among all bodies in hand.
func (b *body) account() *failure {
	more := int64(cap(b.bytes)) - b.taken
	if more <= 0 {
		return nil
	}
	if err := b.edge.deps.Memory.Take(b.who, more); err != nil {
		return b.busy(err)
	}
	b.taken += more
	return nil
}

func (b *body) busy(err error) *failure {
	if errors.Is(err, memory.ErrShare) {
		return b.edge.unavailable(unavailableShare, err.Error())
	}
	return b.edge.unavailable(unavailableBodies, err.Error())
}

// pools keep buffers for the next body. A large one is not given to a small body: it counts as memory of its sender.
type pools struct{ small, large sync.Pool } // of *[]byte

// get returns a buffer for a body of so many bytes; -1 is not known.
func (p *pools) get(size int64) *[]byte {
	pool := &p.small
	if size > readAtOnce {
		pool = &p.large
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (p *pools) put(b *[]byte) {
	switch n := cap(*b); {
	case n <= readAtOnce:
		p.small.Put(b)
	case n <= bufferKeep:
		p.large.Put(b)
	}
}

// release gives the buffer back: what was made of it has been copied.
func (b *body) release(buffer *[]byte) {
	b.edge.deps.Memory.Give(b.who, b.taken)
	*buffer = b.bytes[:0]
	b.edge.buffers.put(buffer)
}

func readFailure(err error, limit int64) *failure {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault(http.StatusRequestEntityTooLarge, "body of more than %d bytes", limit)
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fault(http.StatusRequestEntityTooLarge, "zstd: %v", err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault(http.StatusRequestTimeout, "the body did not come in time")
	}
	return fault(http.StatusBadRequest, "read the body: %v", err)
}

// unpack returns a reader of what raw is packed as, and the memory that it takes beside the body. The caller limits what it
// reads: a small body may unpack to any size.
func unpack(raw io.Reader, encodings []string) (plain io.Reader, memory int64, done func(), fail *failure) {
	var names []string
	for _, line := range encodings {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return raw, 0, func() {}, nil
	}
	if len(names) > encodingsMax {
		return nil, 0, nil, fault(http.StatusUnsupportedMediaType, "Content-Encoding: %v, want one of gzip and zstd", names)
	}
	switch names[0] {
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, 0, nil, fault(http.StatusBadRequest, "Content-Encoding: gzip: %v", err)
		}
		return z, gzipMemory, func() { _ = z.Close() }, nil
	case "zstd":
		buffered := bufio.NewReaderSize(raw, windowLeast)
		window := windowOf(buffered)
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, 0, nil, fault(http.StatusBadRequest, "Content-Encoding: zstd: %v", err)
		}
		return z, int64(window), z.Close, nil //nolint:gosec // at most windowMax
	}
	return nil, 0, nil, fault(http.StatusUnsupportedMediaType, "Content-Encoding: %q, want gzip or zstd", names[0])
}

// windowOf returns the window that a zstd body declares, within the limits: the decoder takes so much memory at once, and lets no
// later frame have more.
func windowOf(r *bufio.Reader) uint64 {
	start, _ := r.Peek(zstd.HeaderMaxSize) // an error comes again when the body is read
	var h zstd.Header
	if err := h.Decode(start); err != nil || h.Skippable {
		return windowMax
	}
	return min(max(h.WindowSize, windowLeast), windowMax)
}
