package mqttedge

import (
	"net"
	"time"
)

// source is the socket with its deadlines: one for the next packet, by the keep-alive, and one for the rest of a packet that
// has begun. To set a deadline costs as much as to read a message, so one that is hardly used up stays.
type source struct {
	conn   *conn
	every  time.Duration // silence after which the connection is cut; 0 for none
	set    time.Time     // when the deadline was set
	within bool          // it is that of a packet
	moved  bool          // a packet was completed since
	raw    bool          // the deadline is set by somebody else
}

// Read implements io.Reader for the Reader of conn.
func (s *source) Read(p []byte) (int, error) {
	c := s.conn
	if s.raw {
		return c.socket.Read(p)
	}
	within, limit := c.reader.Unread() > 0, s.every
	if most := c.edge.cfg.PacketTimeout; within && (limit == 0 || most < limit) {
		limit = most
	}
	stay := within && !s.moved // what trickles in gets no more time
	if now := c.edge.now(); within != s.within || !stay && limit > 0 && now.Sub(s.set) > limit/8 {
		until := time.Time{}
		if limit > 0 {
			until = now.Add(limit)
		}
		s.set, s.within = now, within
		if err := c.socket.SetReadDeadline(until); err != nil {
			return 0, err
		}
		if c.ending.Load() != nil { // end has set a deadline of its own before this one
			return 0, net.ErrClosed
		}
	}
	s.moved = false
	return c.socket.Read(p)
}
