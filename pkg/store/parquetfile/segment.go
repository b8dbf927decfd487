package parquetfile

import (
	"encoding/binary"
	"maps"
	"slices"
	"unicode/utf8"
	"unsafe"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	chunkRows   = 4096
	chunkBytes  = 1 << 20 // a chunk that holds this many is full
	seriesBytes = 320     // what one series costs in memory besides its text, about
)

// series is what many rows share: everything of a message that says who sent it and what it is. Rows name it by number.
type series struct {
	tenant, device, deviceType, channel, channelType string
	source, credential, codec                        string
	kind                                             telemetry.Kind
}

// packedRow is a row in memory: 80 bytes, and its own text and bytes in the chunk. A store.MessageRow takes 400.
type packedRow struct {
	event, ingest, device telemetry.Time
	value                 float64
	position              int64 // store.PackPosition
	series                uint32
	partition             int32 // of the origin
	at                    uint32
	valueLen, idLen       uint32
	attributesLen         uint32
	propertiesLen         uint32
	hasValue              bool
}

// chunk is a run of rows with their bytes. Both only grow at their ends, so that a reader who took the headers may go on
// reading while rows are added.
type chunk struct {
	rows  []packedRow
	bytes []byte
}

// Segment is rows in memory that are in no file yet, a few times smaller than store.MessageRow. One goroutine at a time adds to
// it, while others may read a View of it.
type Segment struct {
	chunks []chunk
	series []series
	index  map[string]uint32
	key    []byte // scratch
	rows   int
	size   int64 // bytes of memory, about
}

// NewSegment returns an empty one.
func NewSegment() *Segment { return &Segment{index: make(map[string]uint32)} }

// View is a segment as of a moment, safe to read while the segment grows.
type View struct {
	chunks []chunk
	series []series
	rows   int
}

// View shows the rows that are in s now.
func (s *Segment) View() View {
	return View{chunks: slices.Clone(s.chunks), series: s.series, rows: s.rows}
}

// Rows returns how many rows s has.
func (s *Segment) Rows() int { return s.rows }

// Size returns about how many bytes of memory s takes.
func (s *Segment) Size() int64 { return s.size }

// Mark is a place in a segment to go back to.
type Mark struct {
	chunks, rows, series int
	lastRows, lastBytes  int // of the last chunk
	size                 int64
}

// Mark returns the place where s ends now.
func (s *Segment) Mark() Mark {
	m := Mark{chunks: len(s.chunks), rows: s.rows, series: len(s.series), size: s.size}
	if m.chunks > 0 {
		last := &s.chunks[m.chunks-1]
		m.lastRows, m.lastBytes = len(last.rows), len(last.bytes)
	}
	return m
}

// Back takes away what was added since m was made. No view may have been taken meanwhile.
func (s *Segment) Back(m Mark) {
	clear(s.chunks[m.chunks:])
	s.chunks = s.chunks[:m.chunks]
	if m.chunks > 0 {
		last := &s.chunks[m.chunks-1]
		last.rows, last.bytes = last.rows[:m.lastRows], last.bytes[:m.lastBytes]
	}
	clear(s.series[m.series:])
	s.series = s.series[:m.series]
	maps.DeleteFunc(s.index, func(_ string, n uint32) bool { return int(n) >= m.series })
	s.rows, s.size = m.rows, m.size
}

// Add takes a copy of m; the reason is set where no file could ever hold it.
func (s *Segment) Add(m *store.MessageRow) (reason string) {
	position, err := store.PackPosition(m.Origin.Position)
	if err != nil {
		return err.Error()
	}
	if !utf8.Valid(m.ChannelValue) || !utf8.ValidString(m.MessageID) || !utf8.Valid(m.Attributes) {
		return "channel_value, message_id or attributes are not UTF-8, which the columns of history are"
	}
	number, reason := s.intern(m)
	if reason != "" {
		return reason
	}
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last].rows) == chunkRows || len(s.chunks[last].bytes) >= chunkBytes {
		s.chunks = append(s.chunks, chunk{rows: make([]packedRow, 0, chunkRows), bytes: make([]byte, 0, chunkRows*16)})
		last++
		s.size += chunkRows * int64(unsafe.Sizeof(packedRow{}))
	}
	c := &s.chunks[last]
	at := len(c.bytes)
	c.bytes = append(c.bytes, m.ChannelValue...)
	c.bytes = append(c.bytes, m.MessageID...)
	c.bytes = append(c.bytes, m.Attributes...)
	properties := len(c.bytes)
	c.bytes = packProperties(c.bytes, m.Properties)
	c.rows = append(c.rows, packedRow{
		event: m.EventTime, ingest: m.IngestTime, device: m.DeviceTime, value: m.Value, hasValue: m.HasValue,
		position: position, partition: m.Origin.Partition, series: number,
		at: uint32(at), valueLen: uint32(len(m.ChannelValue)), idLen: uint32(len(m.MessageID)), //nolint:gosec // a message is bounded far below 4 GiB
		attributesLen: uint32(len(m.Attributes)), propertiesLen: uint32(len(c.bytes) - properties), //nolint:gosec // as above
	})
	s.rows++
	s.size += int64(len(c.bytes) - at)
	return ""
}

// intern returns the number of m's series. Text is checked only when a series is new.
func (s *Segment) intern(m *store.MessageRow) (number uint32, reason string) {
	texts := [...]string{m.Tenant, m.DeviceID, m.DeviceType, m.ChannelKey, m.ChannelType, m.Source, m.Credential, m.Codec}
	key := append(s.key[:0], byte(m.Kind))
	for _, t := range texts {
		key = binary.AppendUvarint(key, uint64(len(t)))
		key = append(key, t...)
	}
	s.key = key
	if n, ok := s.index[string(key)]; ok {
		return n, ""
	}
	if !utf8.Valid(key[1:]) && !allUTF8(texts[:]) { // lengths above 127 are no UTF-8, so the texts decide
		return 0, "a name of the message is not UTF-8, which the columns of history are"
	}
	own := string(key)
	at := 1
	for i := range texts {
		_, n := binary.Uvarint(key[at:])
		at += n
		end := at + len(texts[i])
		texts[i] = own[at:end] // shares the key's memory
		at = end
	}
	number = uint32(len(s.series)) //nolint:gosec // bounded by memory
	s.index[own] = number
	s.series = append(s.series, series{
		tenant: texts[0], device: texts[1], deviceType: texts[2], channel: texts[3], channelType: texts[4],
		source: texts[5], credential: texts[6], codec: texts[7], kind: m.Kind,
	})
	s.size += int64(len(own)) + seriesBytes
	return number, ""
}

func allUTF8(texts []string) bool {
	for _, t := range texts {
		if !utf8.ValidString(t) {
			return false
		}
	}
	return true
}

func packProperties(dst []byte, props []telemetry.Property) []byte {
	for _, p := range props {
		dst = binary.AppendUvarint(dst, uint64(len(p.Key)))
		dst = append(dst, p.Key...)
		dst = binary.AppendUvarint(dst, uint64(len(p.Value)))
		dst = append(dst, p.Value...)
	}
	return dst
}

func unpackProperties(dst []telemetry.Property, b []byte) []telemetry.Property {
	next := func() string {
		n, size := binary.Uvarint(b)
		s := text(b[size : size+int(n)]) //nolint:gosec // packProperties wrote it
		b = b[size+int(n):]              //nolint:gosec // as above
		return s
	}
	for len(b) > 0 {
		key := next()
		dst = append(dst, telemetry.Property{Key: key, Value: next()})
	}
	return dst
}

// text shows b as a string without a copy: the bytes of a chunk never change.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // see above

// parts are a row's own bytes within its chunk.
func (c *chunk) parts(r *packedRow) (value, id, attributes, properties []byte) {
	b := c.bytes[r.at:]
	cut := func(n uint32) []byte {
		part := b[:n:n]
		b = b[n:]
		return part
	}
	return cut(r.valueLen), cut(r.idLen), cut(r.attributesLen), cut(r.propertiesLen)
}

// message fills m with a row. Everything m points to is the segment's and never changes.
func (v *View) message(m *store.MessageRow, c *chunk, r *packedRow) {
	s := &v.series[r.series]
	value, id, attributes, properties := c.parts(r)
	*m = store.MessageRow{
		Message: telemetry.Message{
			Tenant: s.tenant, DeviceID: s.device, DeviceType: s.deviceType, Kind: s.kind,
			ChannelKey: s.channel, ChannelType: s.channelType, ChannelValue: value, Value: r.value, HasValue: r.hasValue,
			EventTime: r.event, DeviceTime: r.device, IngestTime: r.ingest, MessageID: text(id),
			Source: s.source, Credential: s.credential, Codec: s.codec,
		},
		Origin: bus.Origin{Partition: r.partition, Position: store.UnpackPosition(r.position)},
	}
	if len(attributes) > 0 {
		m.Attributes = attributes
	}
	if len(properties) > 0 {
		m.Properties = unpackProperties(nil, properties)
	}
}

// file fills f with a row; scratch is where the JSON of properties is made, and f points into what is returned.
func (v *View) file(f *Row, c *chunk, r *packedRow, scratch []byte) []byte {
	s := &v.series[r.series]
	value, id, attributes, properties := c.parts(r)
	*f = Row{
		Tenant: s.tenant, DeviceID: s.device, DeviceType: s.deviceType, ChannelKey: s.channel, ChannelType: s.channelType,
		ChannelValue: text(value), EventTime: int64(r.event), IngestTime: int64(r.ingest), DeviceTime: int64(r.device),
		MessageID: text(id), Kind: store.KindName(s.kind), Attributes: text(attributes),
		Source: s.source, Credential: s.credential, Codec: s.codec,
		OriginPartition: r.partition, OriginPosition: r.position,
	}
	if r.hasValue {
		f.Value = &r.value
	}
	if len(properties) > 0 {
		at := len(scratch)
		scratch = store.AppendProperties(scratch, unpackProperties(nil, properties))
		f.Properties = text(scratch[at:]) // stays valid when scratch grows into other memory
	}
	return scratch
}

// pieceRows is how many rows are made into messages at once.
const pieceRows = 1024

// Piece is up to pieceRows rows of a chunk of a view.
type Piece struct {
	View       int // number of the view it is of
	chunk, row int
}

// Pieces appends those of v, which is the view of that number.
func (v *View) Pieces(dst []Piece, number int) []Piece {
	for i := range v.chunks {
		for row := 0; row < len(v.chunks[i].rows); row += pieceRows {
			dst = append(dst, Piece{number, i, row})
		}
	}
	return dst
}

// Messages returns the rows of a piece, in memory of its own.
func (v *View) Messages(p Piece) []store.MessageRow {
	c := &v.chunks[p.chunk]
	rows := c.rows[p.row:min(p.row+pieceRows, len(c.rows))]
	run := make([]store.MessageRow, len(rows))
	for k := range rows {
		v.message(&run[k], c, &rows[k])
	}
	return run
}
