package mqtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// cursor takes the fields of a body off its front. The first fault is kept in err, and every read after it returns zero, so
// that a parser checks once, at its end.
type cursor struct {
	b   []byte
	in  Type
	err error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *cursor) short(what string, want int) {
	c.fail(malformed(c.in, fmt.Sprintf("%s: %d bytes left, want %d", what, len(c.b), want)))
}

func (c *cursor) byte(what string) byte {
	if len(c.b) < 1 {
		c.short(what, 1)
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uint16(what string) uint16 {
	if len(c.b) < 2 {
		c.short(what, 2)
		return 0
	}
	v := binary.BigEndian.Uint16(c.b)
	c.b = c.b[2:]
	return v
}

func (c *cursor) uint32(what string) uint32 {
	if len(c.b) < 4 {
		c.short(what, 4)
		return 0
	}
	v := binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return v
}

// varint takes a Variable Byte Integer, which must not have more bytes than it needs (MQTT-1.5.5-1).
func (c *cursor) varint(what string) int {
	n := 0
	for i := range 4 {
		if i >= len(c.b) {
			c.short(what, i+1)
			return 0
		}
		b := c.b[i]
		n |= int(b&0x7f) << (7 * i)
		if b >= 0x80 {
			continue
		}
		if b == 0 && i > 0 {
			c.fail(malformed(c.in, what+": more bytes than the number needs"))
			return 0
		}
		c.b = c.b[i+1:]
		return n
	}
	c.fail(malformed(c.in, what+": a number of more than 4 bytes"))
	return 0
}

// binary takes a value with a length of two bytes before it; it is never nil without a fault.
func (c *cursor) binary(what string) []byte {
	if len(c.b) < 2 {
		c.short(what, 2)
		return nil
	}
	n := int(binary.BigEndian.Uint16(c.b))
	if len(c.b)-2 < n {
		c.fail(malformed(c.in, fmt.Sprintf("%s: length %d, but %d bytes left", what, n, len(c.b)-2)))
		return nil
	}
	v := c.b[2 : 2+n : 2+n]
	c.b = c.b[2+n:]
	return v
}

// text takes a UTF-8 string (MQTT 5, 1.5.4).
func (c *cursor) text(what string) []byte {
	v := c.binary(what)
	if !validText(v) {
		c.fail(malformed(c.in, what+": not UTF-8, or with a null character"))
		return nil
	}
	return v
}

// packetID takes a packet identifier, which is never zero (MQTT 5, 2.2.1).
func (c *cursor) packetID() uint16 {
	id := c.uint16("packet identifier")
	if id == 0 {
		c.fail(violation(c.in, "packet identifier is 0"))
	}
	return id
}

// end refuses what is left over, and returns the first fault.
func (c *cursor) end() error {
	if len(c.b) > 0 {
		c.fail(malformed(c.in, fmt.Sprintf("%d bytes too many", len(c.b))))
	}
	return c.err
}

// validText says whether b is UTF-8 without U+0000 and surrogates, which is all that MQTT forbids in a string.
func validText(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}
