package chdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"
)

// An engine is libchdb.so, loaded at run time without cgo, on one data directory. Any number of sessions may be open at
// once, and their statements run side by side.
type engine struct {
	argv []*byte
	base *uintptr // held open, since the library shuts down with its last connection
	tags atomic.Uint64

	connect    func(argc int32, argv **byte) *uintptr
	disconnect func(conn *uintptr)
	query      queryFunc // the whole answer at once
	stream     queryFunc // the answer block by block, for SELECT only
	fetch      func(conn, stream uintptr) uintptr
	cancel     func(conn, stream uintptr)
	destroy    func(result uintptr)
	buffer     func(result uintptr) *byte
	length     func(result uintptr) uintptr
	failure    func(result uintptr) string
	counters   [4]func(result uintptr) uint64
}

type queryFunc func(conn uintptr, sql *byte, sqlLen int, format *byte, formatLen int,
	names **byte, nameLens *int, values **byte, valueLens *int, params int) uintptr

// counterNames are the counters of an answer, as ClickHouse names them in X-ClickHouse-Summary.
func counterNames() [4]string {
	return [4]string{"read_rows", "read_bytes", "written_rows", "written_bytes"}
}

func load(library string, args ...string) (*engine, error) {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	e := new(engine)
	var signals func(enabled int32)
	for name, f := range map[string]any{
		"set_signal_handlers_enabled": &signals, "connect": &e.connect, "close_conn": &e.disconnect,
		"query_with_params_n": &e.query, "stream_query_with_params_n": &e.stream, "stream_fetch_result": &e.fetch,
		"stream_cancel_query": &e.cancel, "destroy_query_result": &e.destroy, "result_buffer": &e.buffer,
		"result_length": &e.length, "result_error": &e.failure,
		"result_storage_rows_read": &e.counters[0], "result_storage_bytes_read": &e.counters[1],
		"result_rows_written": &e.counters[2], "result_bytes_written": &e.counters[3],
	} {
		purego.RegisterLibFunc(f, lib, "chdb_"+name)
	}
	signals(0) // they are Go's
	for _, a := range append([]string{"clickhouse"}, args...) {
		e.argv = append(e.argv, &append([]byte(a), 0)[0])
	}
	if e.base = e.connect(int32(len(e.argv)), &e.argv[0]); e.base == nil { //nolint:gosec // a few arguments
		return nil, errors.New("the engine does not start: the data directory is in use, or the configuration is wrong")
	}
	return e, nil
}

func (e *engine) close() { e.disconnect(e.base) }

// A session has its own settings, current database and temporary tables, and runs one statement at a time.
type session struct {
	*engine
	conn *uintptr
	tag  string // log_comment, by which its statement is found
}

// open gives a session of which every statement has these settings. It costs less than a millisecond.
func (e *engine) open(database string, settings map[string]string) (*session, error) {
	s := &session{
		e, e.connect(int32(len(e.argv)), &e.argv[0]), //nolint:gosec // a few arguments
		fmt.Sprintf("%s #%d", settings["log_comment"], e.tags.Add(1)),
	}
	if s.conn == nil {
		return nil, errors.New("no connection to the engine")
	}
	// A server has implicit_select off, the library on.
	var set strings.Builder
	set.WriteString("SET implicit_select=0, log_comment=" + quote(s.tag))
	for name, value := range settings {
		if name != "log_comment" {
			set.WriteString(", `" + strings.ReplaceAll(name, "`", "") + "`=" + quote(value))
		}
	}
	var err error
	if database != "" && database != "default" {
		err = s.exec("USE `" + strings.ReplaceAll(database, "`", "\\`") + "`")
	}
	if err == nil {
		err = s.exec(set.String())
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() { s.disconnect(s.conn) }

func (s *session) exec(sql string) error {
	a, err := s.run(sql, strings.NewReader(""), "Null", nil)
	if err == nil {
		a.close()
	}
	return err
}

// kill ends the statement that runs in s, which then fails with code 394; one that has ended needs none.
func (s *session) kill() {
	if k, err := s.open("", nil); err == nil {
		_ = k.exec("KILL QUERY WHERE Settings['log_comment'] = " + quote(s.tag) + " ASYNC")
		k.close()
	}
}

var (
	// What SELECT answers comes as a stream.
	streamed = regexp.MustCompile(`(?i)^[\s(]*(SELECT|WITH)\b`)
	// An INSERT up to its data, of which the second group may go after FROM INFILE.
	inserted = regexp.MustCompile(`(?i)^(\s*INSERT\s+INTO\s+(?:TABLE\s+)?[^\s(]+\s*(?:\((?:[^()]|\([^()]*\))*\))?)\s*((?:SETTINGS\s[^;]*?)?\bFORMAT\s+\w+)[ \t]*\r?\n?`)
)

// run executes a statement, which may go on in data, and gives what it answers.
func (s *session) run(sql string, data io.Reader, format string, params map[string]string) (*answer, error) {
	var text []byte
	if m := inserted.FindStringSubmatch(sql); m != nil { // in a statement the library would read data only up to an empty line
		file, err := spool(io.MultiReader(strings.NewReader(sql[len(m[0]):]), data))
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.Remove(file) }() // what stays is in the set's own directory
		text = fmt.Appendf(nil, "%s FROM INFILE %s COMPRESSION 'none' %s", m[1], quote(file), m[2])
	} else {
		whole := bytes.NewBufferString(sql + "\n")
		if _, err := whole.ReadFrom(data); err != nil {
			return nil, err
		}
		text = whole.Bytes()
	}
	if streamed.MatchString(sql) {
		r, err := s.call(s.stream, text, format, params)
		if err == nil {
			return &answer{session: s, stream: r}, nil
		}
		if !strings.Contains(err.Error(), "Streaming query is not supported") { // WITH … INSERT; nothing was done yet
			return nil, err
		}
	}
	r, err := s.call(s.query, text, format, params)
	if err != nil {
		return nil, err
	}
	a := &answer{session: s}
	a.take(r)
	return a, nil
}

func (s *session) call(f queryFunc, text []byte, format string, params map[string]string) (uintptr, error) {
	var names, values []*byte
	var nameLens, valueLens []int
	//nolint:gosec // the library reads, and keeps nothing after the call
	for name, value := range params {
		names, nameLens = append(names, unsafe.StringData(name)), append(nameLens, len(name))
		values, valueLens = append(values, unsafe.StringData(value+"\x00")), append(valueLens, len(value))
	}
	//nolint:gosec // the library reads, and keeps nothing after the call
	r := f(*s.conn, unsafe.SliceData(text), len(text), unsafe.StringData(format), len(format), unsafe.SliceData(names),
		unsafe.SliceData(nameLens), unsafe.SliceData(values), unsafe.SliceData(valueLens), len(names))
	return r, s.check(r)
}

func spool(data io.Reader) (name string, err error) {
	file, err := os.CreateTemp("", "insert-")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, data)
	if err = errors.Join(err, file.Close()); err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), err
}

// check gives the error in r, and then frees r.
func (s *session) check(r uintptr) error {
	text := s.failure(r)
	if text == "" {
		return nil
	}
	s.destroy(r)
	e := &exceptionError{text: text}
	if m := exceptionCode.FindStringSubmatch(text); m != nil {
		code, err := strconv.Atoi(m[1])
		if err != nil {
			return err
		}
		e.code = code
	}
	return e
}

// An answer is read once, and closed.
type answer struct {
	*session
	stream  uintptr // 0 when the answer came whole
	chunk   uintptr
	rest    []byte // of chunk, in the library's memory
	summary [4]uint64
}

func (a *answer) take(chunk uintptr) {
	a.chunk, a.rest = chunk, unsafe.Slice(a.buffer(chunk), a.length(chunk)) //nolint:gosec // freed by free alone
	for i, count := range a.counters {
		a.summary[i] += count(chunk)
	}
}

// Read gives io.EOF at the end, and the engine's exception where it comes amid the rows.
func (a *answer) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.stream == 0 {
			return 0, io.EOF
		}
		a.free()
		r := a.fetch(*a.conn, a.stream)
		if err := a.check(r); err != nil {
			return 0, err
		}
		if a.take(r); len(a.rest) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *answer) free() {
	if a.chunk != 0 {
		a.destroy(a.chunk)
		a.chunk, a.rest = 0, nil
	}
}

func (a *answer) close() {
	a.free()
	if a.stream != 0 {
		a.cancel(*a.conn, a.stream) // does nothing at its end
		a.destroy(a.stream)
		a.stream = 0
	}
}

func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
