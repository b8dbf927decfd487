package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
)

// The layout of a record batch of version 2 (kafka.apache.org/documentation, "Record Batch"), by offset of its fields.
const (
	atLength      = 8  // int32: of everything behind it
	atLeaderEpoch = 12 // int32
	atMagic       = 16 // int8: 2
	atCRC         = 17 // uint32: CRC32C of everything behind it
	atAttributes  = 21 // int16
	atLastDelta   = 23 // int32
	atBaseTime    = 27 // int64: milliseconds
	atMaxTime     = 35 // int64
	atProducer    = 43 // int64
	atEpoch       = 51 // int16
	atSequence    = 53 // int32
	atCount       = 57 // int32
	batchHeader   = 61

	magicV2           = 2
	attributeCodec    = 0x07
	attributeLogTime  = 0x08 // the broker's clock gave the time, which is the batch's greatest
	attributeControl  = 0x20 // a transaction's marker, no record of anybody
	originHeader      = "origin"
	originBytesMax    = binary.MaxVarintLen32 + binary.MaxVarintLen64 + binary.MaxVarintLen32
	recordOverheadMax = 5 + 1 + 10 + 5 + 1 + 5 + 1 + 1 + len(originHeader) + 1 + originBytesMax

	// batchOverheadBytes is what a batch of one record has beside its value, and more.
	batchOverheadBytes = 1 << 10
)

var (
	errBatch    = errors.New("not a record batch")
	errChecksum = errors.New("a record batch with a wrong checksum")
)

// identity is what lets a broker see that it has a batch already: the producer's id and epoch, and the number of the batch's first
// record among those that the producer sent to the partition.
type identity struct {
	producer int64
	epoch    int16
	sequence int32
}

// following returns the identity of what comes after n records.
func (i identity) following(n int) identity {
	i.sequence = int32((int64(i.sequence) + int64(n)) & 0x7fffffff) // it wraps to 0
	return i
}

// crcTable is made by each use anew, which costs nothing: hash/crc32 keeps it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// appendRecords appends the records as they stand in a batch, behind its header, before compression. All have the batch's time.
func appendRecords(dst []byte, recs []bus.Record) []byte {
	var origin [originBytesMax]byte
	for i := range recs {
		r := &recs[i]
		header := origin[:0]
		if r.Origin.Known() {
			header = appendOrigin(header, r.Origin)
		}
		size := 1 + 1 + varintLen(int64(i)) + 1 + varintLen(int64(len(r.Value))) + len(r.Value) + 1
		if len(header) > 0 {
			size += 1 + len(originHeader) + 1 + len(header)
		}
		dst = binary.AppendVarint(dst, int64(size))
		dst = append(dst, 0, 0) // attributes, and the time's delta
		dst = binary.AppendVarint(dst, int64(i))
		dst = append(dst, 1) // -1: no key
		dst = binary.AppendVarint(dst, int64(len(r.Value)))
		dst = append(dst, r.Value...)
		if len(header) == 0 {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 1<<1, byte(len(originHeader))<<1)
		dst = append(dst, originHeader...)
		dst = append(dst, byte(len(header))<<1) //nolint:gosec // at most originBytesMax
		dst = append(dst, header...)
	}
	return dst
}

func appendOrigin(dst []byte, o bus.Origin) []byte {
	dst = binary.AppendUvarint(dst, uint64(uint32(o.Partition))) //nolint:gosec // as 32 bits, whatever the sign
	dst = binary.AppendUvarint(dst, o.Seq)
	return binary.AppendUvarint(dst, uint64(o.Index))
}

// varintLen returns the length of v as a zigzag varint.
func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63) //nolint:gosec // zigzag
	return (bits.Len64(u|1) + 6) / 7
}

// appendBatchHeader appends the header of a batch whose packed records the caller appends behind it, and then calls sealBatch.
func appendBatchHeader(dst []byte, n int, at int64, id identity) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, batchHeader)...)
	h := dst[start:]
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], ^uint32(0))
	h[atMagic] = magicV2
	binary.BigEndian.PutUint32(h[atLastDelta:], uint32(n-1))        //nolint:gosec // n is positive and bounded by batch_bytes_max
	binary.BigEndian.PutUint64(h[atBaseTime:], uint64(at))          //nolint:gosec // milliseconds since 1970
	binary.BigEndian.PutUint64(h[atMaxTime:], uint64(at))           //nolint:gosec // likewise
	binary.BigEndian.PutUint64(h[atProducer:], uint64(id.producer)) //nolint:gosec // bits
	binary.BigEndian.PutUint16(h[atEpoch:], uint16(id.epoch))       //nolint:gosec // bits
	binary.BigEndian.PutUint32(h[atSequence:], uint32(id.sequence)) //nolint:gosec // bits
	binary.BigEndian.PutUint32(h[atCount:], uint32(n))              //nolint:gosec // as above
	return dst
}

// sealBatch sets what depends on the records. batch begins with its header and ends with its records.
func sealBatch(batch []byte, codec int16) {
	binary.BigEndian.PutUint32(batch[atLength:], uint32(len(batch)-atLeaderEpoch)) //nolint:gosec // bounded by batch_bytes_max
	binary.BigEndian.PutUint16(batch[atAttributes:], uint16(codec))                //nolint:gosec // 0 to 4
	binary.BigEndian.PutUint32(batch[atCRC:], crc32.Checksum(batch[atAttributes:], castagnoli()))
}

// fitting returns how many of recs one batch takes within limit bytes before compression: at least one.
func fitting(recs []bus.Record, limit int) int {
	size := batchHeader
	for i := range recs {
		size += recordOverheadMax + len(recs[i].Value)
		if size > limit && i > 0 {
			return i
		}
	}
	return len(recs)
}

// batchReader yields the batches of what a fetch brought.
type batchReader struct {
	packer *packer
	rest   []byte
	from   int64 // offset of the first record wanted; what is before it in the first batch is left out
}

// read appends the records of the next batch to dst. ok is false at the end, where the last batch may be cut short, as brokers do.
// Values alias what was fetched, or a fresh array. The CRC is checked.
func (b *batchReader) read(dst []bus.Record) (recs []bus.Record, ok bool, err error) {
	if len(b.rest) < atLeaderEpoch {
		return dst, false, nil
	}
	length := int64(int32(binary.BigEndian.Uint32(b.rest[atLength:]))) //nolint:gosec // bits
	if length < batchHeader-atLeaderEpoch {
		return dst, false, fmt.Errorf("%w: its length is %d", errBatch, length)
	}
	if length > int64(len(b.rest)-atLeaderEpoch) {
		return dst, false, nil
	}
	batch := b.rest[:atLeaderEpoch+length]
	b.rest = b.rest[len(batch):]
	base := int64(binary.BigEndian.Uint64(batch)) //nolint:gosec // bits
	if batch[atMagic] != magicV2 {
		return dst, false, fmt.Errorf("%w: at offset %d, version %d, want %d", errBatch, base, batch[atMagic], magicV2)
	}
	if crc32.Checksum(batch[atAttributes:], castagnoli()) != binary.BigEndian.Uint32(batch[atCRC:]) {
		return dst, false, fmt.Errorf("%w: at offset %d", errChecksum, base)
	}
	last := base + int64(binary.BigEndian.Uint32(batch[atLastDelta:]))
	attributes := binary.BigEndian.Uint16(batch[atAttributes:])
	if attributes&attributeControl == 0 && last >= b.from {
		if dst, err = b.records(dst, batch, base, attributes); err != nil {
			return dst, false, fmt.Errorf("batch at offset %d: %w", base, err)
		}
	}
	return dst, true, nil
}

// endOf returns the offset behind the whole batches of what a fetch from offset brought, without reading them.
func endOf(batches []byte, offset int64) (int64, error) {
	for len(batches) >= batchHeader {
		length := int64(int32(binary.BigEndian.Uint32(batches[atLength:]))) //nolint:gosec // bits
		if length < batchHeader-atLeaderEpoch {
			return 0, fmt.Errorf("%w: its length is %d", errBatch, length)
		}
		if length > int64(len(batches)-atLeaderEpoch) {
			break
		}
		last := int64(binary.BigEndian.Uint64(batches)) + int64(binary.BigEndian.Uint32(batches[atLastDelta:])) //nolint:gosec // bits
		offset = max(offset, last+1)
		batches = batches[atLeaderEpoch+length:]
	}
	return offset, nil
}

func (b *batchReader) records(dst []bus.Record, batch []byte, base int64, attributes uint16) ([]bus.Record, error) {
	plain, err := b.packer.unpack(batch[batchHeader:], int16(attributes&attributeCodec))
	if err != nil {
		return dst, err
	}
	count := int(binary.BigEndian.Uint32(batch[atCount:]))
	const recordBytesMin = 7
	if count > len(plain)/recordBytesMin {
		return dst, fmt.Errorf("%w: %d records in %d bytes", errBatch, count, len(plain))
	}
	baseTime := int64(binary.BigEndian.Uint64(batch[atBaseTime:])) //nolint:gosec // bits
	logTime := int64(binary.BigEndian.Uint64(batch[atMaxTime:]))   //nolint:gosec // bits
	given := len(dst)
	dst = slices.Grow(dst, count)
	c := recordCursor{rest: plain}
	for range count {
		r, offset, delta := c.record()
		if c.fault {
			return dst[:given], fmt.Errorf("%w: record %d does not fit", errBatch, len(dst)-given)
		}
		at := base + offset
		if at < b.from {
			continue
		}
		millis := logTime
		if attributes&attributeLogTime == 0 {
			millis = baseTime + delta
		}
		r.Position.Seq, r.Time = uint64(at)+1, millis*1e6 //nolint:gosec // offsets are not negative
		dst = append(dst, r)
	}
	return dst, nil
}

// recordCursor reads the records of a batch from its front, until the first fault.
type recordCursor struct {
	rest  []byte
	fault bool
}

func (c *recordCursor) varint() int64 {
	v, n := binary.Varint(c.rest)
	if c.fault || n <= 0 {
		c.fault = true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// bytes reads a length and so many bytes; nil for -1.
func (c *recordCursor) bytes() []byte {
	n := c.varint()
	if c.fault || n < -1 || n > int64(len(c.rest)) {
		c.fault = true
		return nil
	}
	if n < 0 {
		return nil
	}
	v := c.rest[:n:n]
	c.rest = c.rest[n:]
	return v
}

// record reads one record, and its offset and time within the batch. A header "origin" that is not ours is left aside: the record is
// then one without an origin.
func (c *recordCursor) record() (r bus.Record, offset, delta int64) {
	body := recordCursor{rest: c.bytes()}
	if c.fault || len(body.rest) == 0 {
		c.fault = true
		return r, 0, 0
	}
	body.rest = body.rest[1:] // attributes
	delta, offset = body.varint(), body.varint()
	body.bytes() // the key
	r.Value = body.bytes()
	if r.Value == nil {
		r.Value = []byte{}
	}
	headers := body.varint()
	for i := int64(0); i < headers && !body.fault; i++ {
		key, value := body.bytes(), body.bytes()
		if string(key) == originHeader {
			r.Origin, _ = parseOrigin(value)
		}
	}
	c.fault = c.fault || body.fault || offset < 0
	return r, offset, delta
}

func parseOrigin(b []byte) (bus.Origin, bool) {
	const max32 = 1<<32 - 1
	partition, n := binary.Uvarint(b)
	if n <= 0 || partition > max32 {
		return bus.Origin{}, false
	}
	b = b[n:]
	seq, n := binary.Uvarint(b)
	if n <= 0 {
		return bus.Origin{}, false
	}
	b = b[n:]
	index, n := binary.Uvarint(b)
	if n != len(b) || n <= 0 || index > max32 {
		return bus.Origin{}, false
	}
	return bus.Origin{Partition: int32(uint32(partition)), Position: bus.Position{Seq: seq, Index: uint32(index)}}, true //nolint:gosec // bits
}
