package chdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
)

// serveNative speaks the native protocol (ClickHouse's src/Core/Protocol.h and src/Server/TCPHandler.cpp) with each client.
// It has no progress, logs, profiles, totals or external tables. It returns the listener's error.
func (s *server) serveNative(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }() // what was to be said has been
			c := &native{server: s, Conn: conn, in: newBlockReader(conn)}
			c.unzipped = newBlockReader(compress.NewReader(c.in.buffered))
			if err := c.serve(); !errors.Is(err, io.EOF) {
				s.log.Warn("native protocol", "client", conn.RemoteAddr().String(), "error", err)
			}
		}()
	}
}

// native is one client's connection.
type native struct {
	*server
	net.Conn
	in, unzipped *blockReader
	zip          *compress.Writer // when the client's and the answer's blocks are compressed
	database     string
	ahead        chan bool // from lookAhead
}

func (c *native) serve() error {
	if err := c.hello(); err != nil {
		return err
	}
	for {
		if c.ahead != nil {
			<-c.ahead
			c.ahead = nil
		}
		code, err := c.in.ReadByte()
		if err != nil {
			return err
		}
		switch chproto.ClientCode(code) {
		case chproto.ClientCodePing:
			err = c.send(chproto.ServerCodePong, nil)
		case chproto.ClientCodeQuery:
			err = c.query()
		case chproto.ClientCodeCancel: // of what has ended
		default:
			err = fmt.Errorf("unexpected packet %d", code)
		}
		if err != nil {
			return err
		}
	}
}

func (c *native) hello() error {
	if _, err := c.in.ReadByte(); err != nil {
		return err
	}
	var h chproto.ClientHello
	if err := h.Decode(c.in.Reader); err != nil {
		return err
	}
	if err := c.authenticate(h.User, h.Password); err != nil {
		return errors.Join(err, c.fail(err))
	}
	c.database = h.Database
	var out chproto.Buffer
	reply := chproto.ServerHello{Name: "ClickHouse", Major: 26, Minor: 5, Patch: 1, Revision: revision, Timezone: "UTC", DisplayName: "chdb"}
	reply.EncodeAware(&out, revision)
	if _, err := c.Write(out.Buf); err != nil {
		return err
	}
	_, err := c.in.Str() // the addendum: a quota key
	return err
}

// query reads a statement and answers it; what comes back is an error of the connection.
func (c *native) query() error {
	var q chproto.Query
	if err := q.DecodeAware(c.in.Reader, revision); err != nil {
		return err
	}
	settings, params := map[string]string{}, map[string]string{}
	for _, s := range q.Settings {
		settings[s.Key] = s.Value
	}
	for _, p := range q.Parameters {
		params[p.Key] = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(strings.TrimSuffix(strings.TrimPrefix(p.Value, "'"), "'"))
	}
	c.zip = nil
	if q.Compression == chproto.CompressionEnabled {
		c.zip = compress.NewWriter(0, compressionMethod(settings["network_compression_method"]))
	}
	if external, err := c.data(); err != nil {
		return err
	} else if external != nil {
		return c.fail(errors.New("external tables are not supported here"))
	}
	if err := c.statement(q.Body, settings, params); err != nil {
		return c.fail(err)
	}
	return c.send(chproto.ServerCodeEndOfStream, nil)
}

// An INSERT whose rows follow in packets of data, with its table and columns.
var insertion = regexp.MustCompile(`(?is)^(\s*INSERT\s+INTO\s+(?:TABLE\s+)?([^\s(]+)\s*(?:\(([^()]*)\))?\s*(?:SETTINGS\s[^;]*?)?)(?:VALUES|FORMAT\s+\w+)?\s*;?\s*$`)

func (c *native) statement(sql string, settings, params map[string]string) error {
	if err := oneStatement(sql); err != nil {
		return err
	}
	session, err := c.engine.open(c.database, settings)
	if err != nil {
		return err
	}
	defer session.close()
	var rows []byte
	if m := insertion.FindStringSubmatch(sql); m != nil {
		if rows, err = c.receive(session, m[2], m[3]); rows == nil {
			return err
		}
		sql = m[1] + " FORMAT Native"
	}
	done := make(chan error, 1)
	go func() { done <- c.answer(session, sql, rows, params) }()
	c.ahead = make(chan bool, 1)
	go c.lookAhead(c.ahead)
	select {
	case err = <-done:
	case cancelled := <-c.ahead:
		c.ahead = nil
		if cancelled {
			session.kill()
		}
		err = <-done
	}
	return err
}

// lookAhead says, when the next packet comes, whether it is a cancellation or the end.
func (c *native) lookAhead(cancelled chan<- bool) {
	next, err := c.in.buffered.Peek(1)
	cancelled <- err != nil || next[0] == byte(chproto.ClientCodeCancel)
}

// receive tells the client the columns and collects its rows, in Native at revision 0.
func (c *native) receive(session *session, table, columns string) (rows []byte, err error) {
	if columns == "" {
		columns = "*"
	}
	header, err := describe(session, "SELECT "+columns+" FROM "+table, nil)
	if err == nil {
		err = c.send(chproto.ServerCodeData, &header)
	}
	for err == nil {
		var more []byte
		if more, err = c.data(); more == nil {
			return rows, err
		}
		rows = append(rows, more...)
	}
	return nil, err
}

// data reads a block from the client; the last is nil.
func (c *native) data() ([]byte, error) {
	if code, err := c.in.ReadByte(); err != nil || code != byte(chproto.ClientCodeData) {
		return nil, errors.Join(errors.New("no data"), err)
	}
	if _, err := c.in.Str(); err != nil { // the name of an external table
		return nil, err
	}
	from := c.in
	if c.zip != nil {
		from = c.unzipped
	}
	b, err := from.next(revision)
	if err != nil || len(b.columns) == 0 {
		return nil, err
	}
	var out chproto.Buffer
	b.appendTo(&out, 0)
	return out.Buf, nil
}

func (c *native) answer(session *session, sql string, rows []byte, params map[string]string) error {
	a, err := session.run(sql, bytes.NewReader(rows), "Native", params)
	if err != nil {
		return err
	}
	defer a.close()
	in := newBlockReader(a)
	b, err := in.next(0)
	if errors.Is(err, io.EOF) && streamed.MatchString(sql) { // no rows, but columns
		a.close()
		if b, err = describe(session, strings.TrimRight(sql, "; \n\t"), params); err == nil {
			err = c.send(chproto.ServerCodeData, &b)
		}
		return err
	}
	if err == nil { // the columns come first, without rows
		h := b.header()
		err = c.send(chproto.ServerCodeData, &h)
	}
	for ; err == nil; b, err = in.next(0) {
		if err := c.send(chproto.ServerCodeData, &b); err != nil {
			return err
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *native) send(code chproto.ServerCode, b *block) error {
	var out chproto.Buffer
	code.Encode(&out)
	if b != nil {
		out.PutString("")
		start := len(out.Buf)
		b.appendTo(&out, revision)
		if c.zip != nil {
			if err := c.zip.Compress(out.Buf[start:]); err != nil {
				return err
			}
			out.Buf = append(out.Buf[:start], c.zip.Data...)
		}
	}
	_, err := c.Write(out.Buf)
	return err
}

func (c *native) fail(err error) error {
	e := asException(err)
	text := strings.TrimSpace(exceptionCode.ReplaceAllString(e.text, ""))
	var out chproto.Buffer
	chproto.ServerCodeException.Encode(&out)
	(&chproto.Exception{Code: chproto.Error(e.code), Name: "DB::Exception", Message: text}).EncodeAware(&out, revision)
	_, err = c.Write(out.Buf)
	return err
}
