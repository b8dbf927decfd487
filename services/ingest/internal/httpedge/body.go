package httpedge

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	readAtOnce   = 64 << 10
	bufferKeep   = 1 << 20 // of a buffer that is used again
	windowMax    = 8 << 20 // of a zstd frame
	encodingsMax = 1       // who compresses twice has something else in mind
)

// body reads a request's body within the limits: of its size as it comes, of what it unpacks to, and of all bodies together.
type body struct {
	edge  *Edge
	bytes []byte
	taken int64 // of edge.inflight
}

func (b *body) read(w http.ResponseWriter, r *http.Request) *failure {
	limit := b.edge.cfg.BodyBytesMax
	if r.ContentLength > limit {
		return fault(http.StatusRequestEntityTooLarge, "body of %d bytes, want at most %d", r.ContentLength, limit)
	}
	raw := http.MaxBytesReader(w, r.Body, limit)
	plain, done, fail := unpack(raw, r.Header.Values("Content-Encoding"))
	if fail != nil {
		return fail
	}
	defer done()
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
	b.taken += more
	if b.edge.inflight.Add(more) > b.edge.cfg.InflightBytesMax {
		return &failure{http.StatusServiceUnavailable, "too many bodies in hand", retryBusy}
	}
	return nil
}

// release gives the buffer back: what was made of it has been copied.
func (b *body) release(buffer *[]byte) {
	b.edge.inflight.Add(-b.taken)
	if cap(b.bytes) <= bufferKeep {
		*buffer = b.bytes[:0]
		b.edge.buffers.Put(buffer)
	}
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

// unpack returns a reader of what raw is packed as. The caller limits what it reads: a small body may unpack to any size.
func unpack(raw io.Reader, encodings []string) (plain io.Reader, done func(), fail *failure) {
	var names []string
	for _, line := range encodings {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return raw, func() {}, nil
	}
	if len(names) > encodingsMax {
		return nil, nil, fault(http.StatusUnsupportedMediaType, "Content-Encoding: %v, want one of gzip and zstd", names)
	}
	switch names[0] {
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, nil, fault(http.StatusBadRequest, "Content-Encoding: gzip: %v", err)
		}
		return z, func() { _ = z.Close() }, nil
	case "zstd":
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowMax), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, fault(http.StatusBadRequest, "Content-Encoding: zstd: %v", err)
		}
		return z, z.Close, nil
	}
	return nil, nil, fault(http.StatusUnsupportedMediaType, "Content-Encoding: %q, want gzip or zstd", names[0])
}
