package mqtt

import (
	"fmt"
	"io"
)

// What a Reader takes when nothing else is said, in bytes.
const (
	ReaderSizeDefault = 4 << 10
	PacketMaxDefault  = 256 << 10

	readerSizeMin = 64 // any fixed header fits, with room to spare
	shrinkAfter   = 64 // fills without need of the large buffer, after which it is given back
	emptyReadsMax = 100
)

// Reader reads control packets from a connection and shows them in place.
//
// Its buffer starts with the size given to NewReader and grows, at most by doubling and only when it is full, so that a
// packet which declares a length that it never sends costs no more than the bytes it did send. It never grows beyond the
// larger of that size and the packet limit, and shrinks again when large packets have become rare.
//
// One goroutine. An error of the source is passed on as it is and is not kept: after a timeout the caller may extend the
// deadline and call Next again, and no byte is lost. Unread then says whether half a packet is waiting.
type Reader struct {
	src      io.Reader
	buf      []byte
	pos, end int // buf[pos:end] is read from src and not yet returned
	size     int // the buffer's normal size
	max      int
	version  Version
	small    int // fills in a row for which the normal size would have done
	resize   func(more int) error
}

// NewReader returns a reader of src with a buffer of size bytes (zero: ReaderSizeDefault), which is allocated with the
// first read, and a limit of PacketMaxDefault.
func NewReader(src io.Reader, size int) *Reader {
	if size <= 0 {
		size = ReaderSizeDefault
	}
	return &Reader{src: src, size: max(size, readerSizeMin), max: PacketMaxDefault}
}

// SetLimits sets the largest packet that Next takes, in bytes and with its fixed header, as MQTT 5 counts its Maximum Packet
// Size. Zero or less means PacketMaxDefault. It holds from the next packet on, so a server can allow little for
// CONNECT and more afterwards.
func (r *Reader) SetLimits(packetMax int) {
	if packetMax <= 0 {
		packetMax = PacketMaxDefault
	}
	r.max = packetMax
}

// SetResize makes the reader ask before its buffer grows beyond its normal size, by so many bytes, and tell when it is given back,
// with less than 0. An error, which Next returns, leaves everything as it is. So whoever has many readers can bound what they hold
// together.
func (r *Reader) SetResize(resize func(more int) error) { r.resize = resize }

// SetVersion makes Next as strict as v is: AUTH exists in MQTT 5 alone, and MQTT 5 alone forbids a Remaining Length of
// more bytes than it needs. Until it is called, Next takes both.
func (r *Reader) SetVersion(v Version) { r.version = v }

// Next returns the next packet. Its Body stays valid until the first call of Next that has to read, which is one for which
// Buffered is false: so all packets of one read can be kept and handled together.
//
// It returns io.EOF when the source ends between two packets, io.ErrUnexpectedEOF within one, an *Error with
// ReasonPacketTooLarge as soon as a header declares more than the limit, and an *Error with ReasonMalformedPacket for a
// first byte or length that cannot be. After an *Error the connection is of no more use: Next returns it again.
func (r *Reader) Next() (Packet, error) {
	for {
		head, total, err := r.scan()
		if err != nil {
			return Packet{}, err
		}
		if total > 0 && r.end-r.pos >= total {
			b := r.buf[r.pos : r.pos+total : r.pos+total]
			r.pos += total
			return Packet{Type: Type(b[0] >> 4), Flags: b[0] & 0x0f, Body: b[head:]}, nil
		}
		if err := r.fill(total); err != nil {
			if err == io.EOF && r.pos < r.end { //nolint:errorlint // a source ends with io.EOF itself
				err = io.ErrUnexpectedEOF
			}
			return Packet{}, err
		}
	}
}

// Buffered says whether Next will return without reading from the source: a whole packet is there, or an *Error.
func (r *Reader) Buffered() bool {
	_, total, err := r.scan()
	return err != nil || total > 0 && r.end-r.pos >= total
}

// Unread returns the number of bytes that were read and not yet returned by Next. When Buffered is false and Unread is not
// zero, the other side is in the middle of a packet.
func (r *Reader) Unread() int { return r.end - r.pos }

// scan looks at the fixed header at pos. head is its length and total that of the whole packet; both are zero when
// the header is not complete.
func (r *Reader) scan() (head, total int, err error) {
	b := r.buf[r.pos:r.end]
	if len(b) == 0 {
		return 0, 0, nil
	}
	if b[0] != byte(TypePublish)<<4|2 && b[0] != byte(TypePuback)<<4 { // the two that come by the million are in order
		if err := checkFirst(b[0], r.version); err != nil {
			return 0, 0, err
		}
	}
	n := 0
	for i := 1; i < len(b); i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			if b[i] == 0 && i > 1 && r.version == Version5 {
				return 0, 0, malformed(Type(b[0]>>4), "remaining length has more bytes than it needs")
			}
			head = i + 1
			break
		}
		if i == 4 {
			return 0, 0, malformed(Type(b[0]>>4), "remaining length has more than 4 bytes")
		}
	}
	if head == 0 {
		return 0, 0, nil
	}
	if head+n > r.max {
		return 0, 0, &Error{
			Packet: Type(b[0] >> 4), Code: ReasonPacketTooLarge,
			Detail: fmt.Sprintf("%d bytes, the limit is %d", head+n, r.max),
		}
	}
	return head, head + n, nil
}

// fill reads once. The packet at pos has total bytes, or zero when that is not known yet.
func (r *Reader) fill(total int) error {
	if err := r.fit(total); err != nil {
		return err
	}
	for range emptyReadsMax {
		n, err := r.src.Read(r.buf[r.end:])
		if n > 0 {
			r.end += n // an error that came along comes again with the next read
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// fit makes room to read: it moves what is unread to the front, and gets a larger or smaller buffer when it must.
func (r *Reader) fit(total int) error {
	unread := r.end - r.pos
	next := len(r.buf)
	switch {
	case len(r.buf) == 0:
		next = r.size
	case unread == len(r.buf): // then the header is there, so total is known
		next = min(2*len(r.buf), total)
	case len(r.buf) > r.size && total <= r.size && unread < r.size:
		if r.small++; r.small >= shrinkAfter {
			next = r.size
		}
	}
	if total > r.size || next != len(r.buf) {
		r.small = 0
	}
	if next != len(r.buf) {
		if r.resize != nil && len(r.buf) > 0 {
			if err := r.resize(next - len(r.buf)); err != nil {
				return err
			}
		}
		buf := make([]byte, next)
		copy(buf, r.buf[r.pos:r.end])
		r.buf = buf
	} else if r.pos > 0 {
		copy(r.buf, r.buf[r.pos:r.end])
	}
	r.pos, r.end = 0, unread
	return nil
}
