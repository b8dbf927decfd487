package live

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/schemas"
)

const gzipBytesMin = 1400 // what fits one packet gains nothing

// answerJSON sends a JSON value, compressed when the client takes that.
func answerJSON(w http.ResponseWriter, r *http.Request, code int, body []byte) {
	send(w, r, code, "application/json", append(body, '\n'))
}

func send(w http.ResponseWriter, r *http.Request, code int, mediaType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	if len(body) >= gzipBytesMin && takesGzip(r) {
		var small bytes.Buffer
		z, err := gzip.NewWriterLevel(&small, gzip.BestSpeed)
		if err == nil {
			_, _ = z.Write(body) // to memory
			_ = z.Close()
			h.Set("Content-Encoding", "gzip")
			body = small.Bytes()
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = bytes.NewReader(body).WriteTo(w) // the client may be gone
}

// takesGzip reads Accept-Encoding (RFC 9110, section 12.5.3) as far as it speaks of gzip.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, weighed := strings.CutPrefix(strings.TrimSpace(params), "q=")
		if !weighed {
			return true
		}
		weight, err := strconv.ParseFloat(q, 64)
		return err == nil && weight > 0
	}
	return false
}

// contract serves one of the embedded contracts.
func contract(name string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		b, err := schemas.Read(name)
		if err != nil {
			return fmt.Errorf("contract %s: %w", name, err)
		}
		send(w, r, http.StatusOK, "application/yaml", b)
		return nil
	}
}

func appendText(dst []byte, s string) []byte { return store.AppendJSONString(dst, s) }

// appendValue appends a value of the store as JSON. Of kind embedded, a text that is JSON is put in as it is.
func appendValue(dst []byte, v any, k kind) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case time.Time:
		dst = append(dst, '"')
		dst = v.UTC().AppendFormat(dst, time.RFC3339Nano)
		return append(dst, '"')
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return append(dst, "null"...)
		}
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	case string:
		if k == embedded {
			return appendEmbedded(dst, v)
		}
		return appendText(dst, v)
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Append(dst, v)
	}
	return appendText(dst, fmt.Sprint(v))
}

// appendEmbedded appends JSON text as it is, null where it is none.
func appendEmbedded(dst []byte, text string) []byte {
	if text == "" || !json.Valid([]byte(text)) {
		return append(dst, "null"...)
	}
	return append(dst, text...)
}
