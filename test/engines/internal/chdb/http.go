package chdb

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ping":
		_, _ = io.WriteString(w, "Ok.\n") // who has gone needs no answer
	case "/", "", "/default": // the last as in a DSN that names the database
		out := &response{ResponseWriter: w}
		err := s.request(out, r)
		if err == nil && out.zip != nil {
			err = out.zip.Close()
		}
		if err != nil {
			out.fail(err)
		}
	default:
		http.NotFound(w, r)
	}
}

// A statement is what a request asks for.
type statement struct {
	sql, database, format string
	data                  io.Reader // where an INSERT goes on
	settings, params      map[string]string
}

func readStatement(r *http.Request, query url.Values) (st statement, err error) {
	st = statement{database: query.Get("database"), format: query.Get("default_format"), sql: query.Get("query")}
	st.settings, st.params = map[string]string{}, map[string]string{}
	for k := range query {
		if name, ok := strings.CutPrefix(k, "param_"); ok {
			st.params[name] = query.Get(k)
		} else if isSetting(k) {
			st.settings[k] = query.Get(k)
		}
	}
	if r.Method == http.MethodGet {
		st.settings["readonly"] = "2"
	}
	if st.data, err = body(r); err != nil {
		return st, err
	}
	if st.sql == "" {
		all, err := io.ReadAll(st.data)
		if err != nil {
			return st, err
		}
		st.sql, st.data = string(all), strings.NewReader("")
	}
	if m := formatClause.FindStringSubmatch(st.sql); m != nil {
		st.format = m[1]
	} else if st.format == "" {
		st.format = "TabSeparated"
	}
	return st, oneStatement(st.sql)
}

// isSetting says whether a query's parameter is a setting of ClickHouse.
func isSetting(name string) bool {
	switch name {
	case "query", "database", "default_format", "client_protocol_version", "compress", "decompress", "user", "password",
		"query_id", "quota_key", "session_id", "session_timeout", "wait_end_of_query", "buffer_size":
		return false
	}
	return true
}

var formatClause = regexp.MustCompile(`(?i)\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^;]*)?;?\s*$`)

func (s *server) request(w *response, r *http.Request) error {
	if err := s.authenticate(credentials(r)); err != nil {
		return err
	}
	query := r.URL.Query()
	st, err := readStatement(r, query)
	if err != nil {
		return err
	}
	session, err := s.engine.open(st.database, st.settings)
	if err != nil {
		return err
	}
	defer session.close()
	if st.settings["cancel_http_readonly_queries_on_client_close"] == "1" {
		defer context.AfterFunc(r.Context(), session.kill)() // else a statement goes on, as in a server
	}
	a, err := session.run(st.sql, st.data, st.format, st.params)
	if err != nil {
		return err
	}
	defer a.close()
	if err := w.begin(r, query, st, a); err != nil {
		return err
	}
	revision, err := strconv.Atoi(query.Get("client_protocol_version"))
	if st.format != "Native" || err != nil || revision == 0 {
		_, err = io.Copy(w, a)
		return err
	}
	return w.blocks(a, revision)
}

// begin sets what stands before the answer's rows.
func (w *response) begin(r *http.Request, query url.Values, st statement, a *answer) error {
	summary := map[string]string{}
	for i, name := range counterNames() {
		summary[name] = strconv.FormatUint(a.summary[i], 10)
	}
	text, err := json.Marshal(summary)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-ClickHouse-Summary", string(text))
	h.Set("X-ClickHouse-Query-Id", query.Get("query_id"))
	h.Set("X-ClickHouse-Format", st.format)
	h.Set("X-ClickHouse-Timezone", "UTC")
	if query.Get("compress") == "1" {
		w.block = compress.NewWriter(0, compressionMethod(st.settings["network_compression_method"]))
	} else if st.settings["enable_http_compression"] == "1" && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		w.zip = gzip.NewWriter(w.ResponseWriter)
	}
	return nil
}

// blocks writes the answer as a client of a later revision than the library's wants it.
func (w *response) blocks(a *answer, revision int) error {
	for in := newBlockReader(a); ; {
		b, err := in.next(0)
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var out chproto.Buffer
		b.appendTo(&out, revision)
		if _, err := w.Write(out.Buf); err != nil {
			return err
		}
	}
}

// body undoes the compression of what a client sends.
func body(r *http.Request) (io.Reader, error) {
	switch encoding := r.Header.Get("Content-Encoding"); {
	case encoding == "gzip":
		return gzip.NewReader(r.Body)
	case encoding != "":
		return nil, errors.New("no such Content-Encoding here: " + encoding)
	case r.URL.Query().Get("decompress") == "1":
		return plainEOF{compress.NewReader(r.Body)}, nil
	}
	return r.Body, nil
}

// plainEOF unwraps the EOF of ch-go's reader.
type plainEOF struct{ io.Reader }

func (r plainEOF) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}

func compressionMethod(name string) compress.Method {
	if strings.EqualFold(name, "ZSTD") {
		return compress.ZSTD
	}
	return compress.LZ4
}

func credentials(r *http.Request) (user, password string) {
	user, password, ok := r.BasicAuth()
	if !ok {
		user, password = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	}
	if user == "" {
		user, password = r.URL.Query().Get("user"), r.URL.Query().Get("password")
	}
	return user, password
}

// A response knows whether its status has gone, and compresses if asked.
type response struct {
	http.ResponseWriter
	sent  bool
	block *compress.Writer // each write a block of ClickHouse's own compression
	zip   *gzip.Writer
}

func (w *response) Write(p []byte) (int, error) {
	w.sent = true
	switch {
	case w.block != nil:
		if err := w.block.Compress(p); err != nil {
			return 0, err
		}
		_, err := w.ResponseWriter.Write(w.block.Data)
		return len(p), err
	case w.zip != nil:
		return w.zip.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

// fail answers with an error; amid an answer it comes framed in the body, as a server does it.
func (w *response) fail(err error) {
	e := asException(err)
	if w.sent {
		const tag = "0123456789abcdef"
		_, _ = fmt.Fprintf(w, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", tag, e.text, len(e.text)+1, tag)
		if w.zip != nil {
			_ = w.zip.Close()
		}
		return
	}
	status := http.StatusInternalServerError
	if e.code == codePassword {
		status = http.StatusForbidden
	}
	w.Header().Del("Content-Encoding")
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.code))
	http.Error(w.ResponseWriter, e.text, status)
}
