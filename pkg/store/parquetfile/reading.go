package parquetfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	pq "github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pkg/store"
)

// Magic is what a file begins and ends with.
const Magic = "PAR1"

// Rows yields the rows of a file in their order, see OpenReader. An error ends it.
func Rows(file io.ReaderAt, size int64) iter.Seq2[store.MessageRow, error] {
	return func(yield func(store.MessageRow, error) bool) {
		r, err := OpenReader(file, size)
		if err != nil {
			yield(store.MessageRow{}, err)
			return
		}
		defer r.Close()
		rows := make([]Row, Run)
		for {
			n, err := r.Read(rows)
			for i := range rows[:n] {
				m, err := rows[i].Message()
				if !yield(m, err) || err != nil {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(store.MessageRow{}, err)
				return
			}
		}
	}
}

// Reader reads the rows of one file from its start, a few pages in memory at a time. One goroutine uses it.
type Reader struct {
	rows   int64
	groups []pq.RowGroup
	left   int64 // rows of the group under way
	cursor []*cursor
	texts  texts
}

// OpenReader reads the footer of a file of size bytes. Columns that the file lacks are empty, those that are not known are passed
// over. Whatever the bytes are, it and Read return an error and never panic.
func OpenReader(file io.ReaderAt, size int64) (r *Reader, err error) {
	defer func() {
		if p := recover(); p != nil { // parquet-go panics on some bytes that are no Parquet
			err = fmt.Errorf("no Parquet: %v", p)
		}
	}()
	if err := CheckFooter(file, size); err != nil {
		return nil, err
	}
	p, err := pq.OpenFile(file, size, pq.SkipBloomFilters(true), pq.SkipPageIndex(true))
	if err != nil {
		return nil, err
	}
	return &Reader{rows: p.NumRows(), groups: p.RowGroups()}, nil
}

// NumRows returns how many rows the footer says there are.
func (r *Reader) NumRows() int64 { return r.rows }

// CheckFooter checks the length of the footer, which parquet-go believes whatever it says.
func CheckFooter(f io.ReaderAt, size int64) error {
	const frame = 12 // magic at both ends, and the length
	if size < frame {
		return fmt.Errorf("%d bytes, want %d at least", size, frame)
	}
	var tail [8]byte
	if _, err := f.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); string(tail[4:]) != Magic || n > size-frame {
		return fmt.Errorf("it ends in a footer of %d bytes and %q, want at most %d and %s", n, tail[4:], size-frame, Magic)
	}
	return nil
}

// Close frees what the Reader holds; the file stays open.
func (r *Reader) Close() { r.leaveGroup() }

func (r *Reader) leaveGroup() {
	for _, c := range r.cursor {
		c.close()
	}
	r.cursor = nil
}

// Read fills rows and returns how many; io.EOF comes alone, after the last. What the rows point to is theirs for good.
func (r *Reader) Read(rows []Row) (n int, err error) {
	defer func() {
		if p := recover(); p != nil { // see OpenReader
			n, err = 0, fmt.Errorf("no Parquet: %v", p)
		}
	}()
	for r.left == 0 {
		if len(r.groups) == 0 {
			return 0, io.EOF
		}
		r.leaveGroup()
		r.enterGroup(r.groups[0])
		r.groups = r.groups[1:]
	}
	n = int(min(int64(len(rows)), r.left))
	clear(rows[:n])
	for _, c := range r.cursor {
		if err := c.read(rows[:n], &r.texts); err != nil {
			return 0, fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	r.left -= int64(n)
	return n, nil
}

func (r *Reader) enterGroup(g pq.RowGroup) {
	r.left = g.NumRows()
	chunks := g.ColumnChunks()
	for i, path := range g.Schema().Columns() {
		if len(path) != 1 {
			continue
		}
		if set := setter(path[0]); set != nil {
			r.cursor = append(r.cursor, &cursor{name: path[0], set: set, pages: chunks[i].Pages()})
		}
	}
}

// cursor reads one column of one row group.
type cursor struct {
	name   string
	set    func(*Row, pq.Value, *cursor, *texts)
	last   string // the newest text: most rows repeat it
	pages  pq.Pages
	page   pq.Page
	values pq.ValueReader
	buffer [128]pq.Value
}

func (c *cursor) close() {
	if c.page != nil {
		pq.Release(c.page)
	}
	_ = c.pages.Close() // it was only read
}

func (c *cursor) read(rows []Row, t *texts) error {
	for len(rows) > 0 {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return fmt.Errorf("%d rows missing: %w", len(rows), unexpected(err))
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buffer[:min(len(c.buffer), len(rows))])
		for i := range n {
			c.set(&rows[i], c.buffer[i], c, t) // copies, since the values are the page's
		}
		rows = rows[n:]
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			pq.Release(c.page)
			c.page = nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// texts holds copies of texts and numbers in large blocks, none of which is ever used twice.
type texts struct {
	bytes   []byte
	numbers []float64
}

func (t *texts) copy(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(t.bytes)+len(b) > cap(t.bytes) {
		t.bytes = make([]byte, 0, max(64<<10, len(b)))
	}
	at := len(t.bytes)
	t.bytes = append(t.bytes, b...)
	return text(t.bytes[at:])
}

func (t *texts) number(v float64) *float64 {
	if len(t.numbers) == cap(t.numbers) {
		t.numbers = make([]float64, 0, 1024)
	}
	t.numbers = append(t.numbers, v)
	return &t.numbers[len(t.numbers)-1]
}

// repeated returns b as text, the same as the row before where it says the same.
func (c *cursor) repeated(b []byte, t *texts) string {
	if c.last != string(b) {
		c.last = t.copy(b)
	}
	return c.last
}

// setter returns what puts a value of the named column into a row; nil for a column that is not known.
func setter(column string) func(*Row, pq.Value, *cursor, *texts) {
	if place := textPlace(column); place != nil {
		return func(r *Row, v pq.Value, c *cursor, t *texts) { *place(r) = c.repeated(v.ByteArray(), t) }
	}
	switch column {
	case "value":
		return func(r *Row, v pq.Value, _ *cursor, t *texts) {
			if !v.IsNull() {
				r.Value = t.number(v.Double())
			}
		}
	case "event_time":
		return func(r *Row, v pq.Value, _ *cursor, _ *texts) { r.EventTime = v.Int64() }
	case "ingest_time":
		return func(r *Row, v pq.Value, _ *cursor, _ *texts) { r.IngestTime = v.Int64() }
	case "device_time":
		return func(r *Row, v pq.Value, _ *cursor, _ *texts) {
			if !v.IsNull() {
				r.DeviceTime = v.Int64()
			}
		}
	case "origin_partition":
		return func(r *Row, v pq.Value, _ *cursor, _ *texts) { r.OriginPartition = v.Int32() }
	case "origin_position":
		return func(r *Row, v pq.Value, _ *cursor, _ *texts) { r.OriginPosition = v.Int64() }
	}
	return nil
}

// textPlace says where a row keeps the named text.
func textPlace(column string) func(*Row) *string {
	switch column {
	case "tenant":
		return func(r *Row) *string { return &r.Tenant }
	case "device_id":
		return func(r *Row) *string { return &r.DeviceID }
	case "device_type":
		return func(r *Row) *string { return &r.DeviceType }
	case "channel_key":
		return func(r *Row) *string { return &r.ChannelKey }
	case "channel_type":
		return func(r *Row) *string { return &r.ChannelType }
	case "channel_value":
		return func(r *Row) *string { return &r.ChannelValue }
	case "message_id":
		return func(r *Row) *string { return &r.MessageID }
	case "kind":
		return func(r *Row) *string { return &r.Kind }
	case "properties":
		return func(r *Row) *string { return &r.Properties }
	case "attributes":
		return func(r *Row) *string { return &r.Attributes }
	case "source":
		return func(r *Row) *string { return &r.Source }
	case "credential":
		return func(r *Row) *string { return &r.Credential }
	case "codec":
		return func(r *Row) *string { return &r.Codec }
	}
	return nil
}
