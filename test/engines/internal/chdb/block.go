package chdb

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// The protocol's revision that is spoken here, the one of clickhouse-go.
const revision = proto.DBMS_TCP_PROTOCOL_VERSION

// A block is a part of a table in ClickHouse's Native format. The engine writes and reads it at revision 0; later revisions
// have a head before each block and a byte before each column's data, which themselves are the same.
type block struct {
	rows    int
	columns []blockColumn
}

type blockColumn struct {
	name, kind string
	data       []byte
}

// header is b without its rows.
func (b block) header() block {
	h := block{columns: make([]blockColumn, len(b.columns))}
	for i, c := range b.columns {
		h.columns[i] = blockColumn{name: c.name, kind: c.kind}
	}
	return h
}

func (b block) appendTo(out *chproto.Buffer, revision int) {
	if revision > 0 { // neither an overflow nor a bucket
		out.PutUVarInt(1)
		out.PutBool(false)
		out.PutUVarInt(2)
		out.PutInt32(-1)
		out.PutUVarInt(0)
	}
	out.PutUVarInt(uint64(len(b.columns)))
	out.PutUVarInt(uint64(b.rows)) //nolint:gosec // a count
	for _, c := range b.columns {
		out.PutString(c.name)
		out.PutString(c.kind)
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			out.PutBool(false)
		}
		out.PutRaw(c.data)
	}
}

// A blockReader finds the blocks in a stream. Only a decoder knows where a column's data end, so clickhouse-go's goes over
// them, and the bytes are taken from a tape; what it cannot decode is an error.
type blockReader struct {
	*chproto.Reader
	buffered *bufio.Reader
	tape     *tape
}

type tape struct {
	io.Reader
	bytes []byte
}

func (t *tape) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.bytes = append(t.bytes, p[:n]...)
	return n, err
}

func newBlockReader(r io.Reader) *blockReader {
	t := &tape{Reader: r}
	b := bufio.NewReaderSize(t, 1<<20) // large enough for NewReader to take it as it is
	return &blockReader{chproto.NewReader(b), b, t}
}

func (r *blockReader) position() int { return len(r.tape.bytes) - r.buffered.Buffered() }

// next gives a block that is valid until the next call, and io.EOF when there is none.
func (r *blockReader) next(revision int) (b block, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("clickhouse-go cannot decode this: %v", p)
		}
	}()
	r.tape.bytes = append(r.tape.bytes[:0], r.tape.bytes[r.position():]...)
	if revision > 0 {
		if _, err := r.ReadRaw(8); err != nil { // the head, as in appendTo
			return b, err
		}
	}
	count, err := r.UVarInt()
	if errors.Is(err, io.EOF) {
		return b, io.EOF
	} else if err != nil {
		return b, err
	}
	if b.rows, err = r.Int(); err != nil {
		return b, err
	}
	b.columns = make([]blockColumn, count)
	for i := range b.columns {
		c := &b.columns[i]
		if c.name, err = r.Str(); err != nil {
			return b, err
		}
		if c.kind, err = r.Str(); err != nil {
			return b, err
		}
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			if custom, err := r.Bool(); err != nil || custom {
				return b, errors.Join(errors.New("a custom serialization"), err)
			}
		}
		start := r.position()
		if err := r.skip(c.kind, b.rows); err != nil {
			return b, fmt.Errorf("column %s: %w", c.name, err)
		}
		c.data = r.tape.bytes[start:r.position()]
	}
	return b, nil
}

func (r *blockReader) skip(kind string, rows int) error {
	c, err := column.Type(kind).Column("", &column.ServerContext{Revision: revision, VersionMajor: 26, VersionMinor: 5, Timezone: time.UTC})
	if err != nil || rows == 0 {
		return err
	}
	if prefixed, ok := c.(column.CustomSerialization); ok {
		if err := prefixed.ReadStatePrefix(r.Reader); err != nil {
			return err
		}
	}
	return c.Decode(r.Reader, rows)
}

// describe gives the columns of a SELECT, as a block without rows.
func describe(session *session, query string, params map[string]string) (header block, err error) {
	a, err := session.run("DESCRIBE ("+query+")", strings.NewReader(""), "JSONCompactEachRow", params)
	if err != nil {
		return header, err
	}
	defer a.close()
	for lines := json.NewDecoder(a); lines.More(); {
		var line []string
		if err := lines.Decode(&line); err != nil {
			return header, err
		}
		header.columns = append(header.columns, blockColumn{name: line[0], kind: line[1]})
	}
	return header, nil
}
