package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

// Compression names how the records of a batch are packed.
type Compression string

// What every broker and consumer knows. Gzip is read, too.
const (
	None   Compression = "none"
	Snappy Compression = "snappy"
	Lz4    Compression = "lz4"
	Zstd   Compression = "zstd"
)

const (
	worthPacking     = 512      // bytes; less has nothing to gain
	unpackedBytesMax = 64 << 20 // of one batch; what claims or turns out to be more is refused
)

// The codes in a batch's attributes.
const (
	codeNone   = 0
	codeSnappy = 2
	codeLz4    = 3
	codeZstd   = 4
)

var errPacked = errors.New("not what its compression says")

func (c Compression) known() bool {
	switch c {
	case None, Snappy, Lz4, Zstd:
		return true
	default:
		return false
	}
}

// packer compresses and decompresses batches. Safe for concurrent use.
type packer struct {
	with    Compression
	encoder *zstd.Encoder // used by EncodeAll alone, which is safe for concurrent use; likewise decoder
	decoder *zstd.Decoder
	lz4     sync.Pool // of *bytes.Buffer
}

func newPacker(with Compression) (*packer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), // the batch has one
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("make the compressor: %w", err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(unpackedBytesMax), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, fmt.Errorf("make the decompressor: %w", err)
	}
	return &packer{with: with, encoder: encoder, decoder: decoder}, nil
}

func (p *packer) close() {
	p.decoder.Close()
	_ = p.encoder.Close() // it was never written to
}

// pack appends plain to dst, compressed where that makes it smaller, and returns what it is then.
func (p *packer) pack(dst, plain []byte) ([]byte, int16, error) {
	if len(plain) < worthPacking || p.with == None {
		return append(dst, plain...), codeNone, nil
	}
	start, code := len(dst), int16(codeZstd)
	switch p.with {
	case Snappy:
		dst, code = packSnappy(dst, plain), codeSnappy
	case Lz4:
		var err error
		if dst, err = p.packLz4(dst, plain); err != nil {
			return dst[:start], 0, err
		}
		code = codeLz4
	case Zstd, None:
		dst = p.encoder.EncodeAll(plain, dst)
	}
	if len(dst)-start >= len(plain) {
		return append(dst[:start], plain...), codeNone, nil
	}
	return dst, code, nil
}

// snappyHeader begins what Kafka calls snappy (the framing of xerial's snappy-java): a magic, the version, and the lowest
// compatible version. Blocks follow, each with its length.
const snappyHeader = "\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"

func packSnappy(dst, plain []byte) []byte {
	dst = append(dst, snappyHeader...)
	at := len(dst)
	dst = slices.Grow(dst, 4+s2.MaxEncodedLen(len(plain)))
	block := s2.EncodeSnappy(dst[at+4:cap(dst)], plain)
	dst = dst[:at+4+len(block)]
	binary.BigEndian.PutUint32(dst[at:], uint32(len(block))) //nolint:gosec // bounded by batch_bytes_max
	return dst
}

func (p *packer) packLz4(dst, plain []byte) ([]byte, error) {
	buf, ok := p.lz4.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	defer p.lz4.Put(buf)
	buf.Reset()
	w := compress.Lz4.Codec().NewWriter(buf)
	if _, err := w.Write(plain); err != nil {
		return dst, fmt.Errorf("compress: %w", errors.Join(err, w.Close()))
	}
	if err := w.Close(); err != nil {
		return dst, fmt.Errorf("compress: %w", err)
	}
	return append(dst, buf.Bytes()...), nil
}

// unpack returns what pack, or any other producer, has packed. The result aliases packed where that is plain, else it is fresh.
func (p *packer) unpack(packed []byte, code int16) ([]byte, error) {
	switch code {
	case codeNone:
		return packed, nil
	case codeZstd:
		plain, err := p.decoder.DecodeAll(packed, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", errPacked, err)
		}
		return plain, nil
	case codeSnappy:
		return unpackSnappy(packed)
	}
	codec := compress.Compression(code).Codec() //nolint:gosec // three bits
	if codec == nil {
		return nil, fmt.Errorf("%w: unknown compression %d", errPacked, code)
	}
	r := codec.NewReader(bytes.NewReader(packed))
	plain, err := io.ReadAll(io.LimitReader(r, unpackedBytesMax+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errPacked, codec.Name(), err)
	}
	if len(plain) > unpackedBytesMax {
		return nil, fmt.Errorf("%w: more than %d bytes", errPacked, unpackedBytesMax)
	}
	return plain, nil
}

func unpackSnappy(packed []byte) ([]byte, error) {
	if !bytes.HasPrefix(packed, []byte(snappyHeader[:8])) || len(packed) < len(snappyHeader) {
		return appendSnappyBlock(nil, packed) // one bare block, as some clients write it
	}
	var plain []byte
	for rest := packed[len(snappyHeader):]; len(rest) > 0; {
		if len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) > int64(len(rest)-4) {
			return nil, fmt.Errorf("%w: snappy: a block is cut short", errPacked)
		}
		n := int(binary.BigEndian.Uint32(rest))
		var err error
		if plain, err = appendSnappyBlock(plain, rest[4:4+n]); err != nil {
			return nil, err
		}
		rest = rest[4+n:]
	}
	return plain, nil
}

func appendSnappyBlock(dst, block []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil || n > unpackedBytesMax-len(dst) {
		return nil, fmt.Errorf("%w: snappy: a block of %d bytes, want at most %d in all: %w", errPacked, n, unpackedBytesMax, err)
	}
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	if _, err := s2.Decode(dst[start:start+n:start+n], block); err != nil {
		return nil, fmt.Errorf("%w: snappy: %w", errPacked, err)
	}
	return dst, nil
}
