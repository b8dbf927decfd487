package answer

import (
	"bufio"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
)

// Encoding is one form of a result.
type Encoding struct {
	MediaType string
	// Write writes the rest of the result and flushes it, without closing either. Rows are encoded as they come; no form
	// holds more than a few thousand in memory.
	Write func(w io.Writer, r Result) error
}

// Encodings returns all forms, the default first.
func Encodings() []Encoding {
	return []Encoding{
		{"application/json", writeJSON},
		{"application/x-ndjson", writeNDJSON},
		{"text/csv", writeCSV},
		{"application/vnd.apache.arrow.stream", writeArrow},
		{"application/vnd.apache.parquet", writeParquet},
	}
}

// EncodingFor returns the form that the header Accept prefers: the highest q, then the first named. No header is JSON.
func EncodingFor(accept string) (Encoding, error) {
	all := Encodings()
	if strings.TrimSpace(accept) == "" {
		return all[0], nil
	}
	var best Encoding
	bestQ := 0.0
	for part := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue // one that cannot be read names nothing we have
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		for _, e := range all {
			if matches(name, e.MediaType) && q > bestQ {
				best, bestQ = e, q
			}
		}
	}
	if bestQ == 0 {
		return Encoding{}, fmt.Errorf("%w (asked for %.200q)", ErrNotAcceptable, accept)
	}
	return best, nil
}

func matches(pattern, mediaType string) bool {
	switch pattern {
	case mediaType, "*/*":
		return true
	case "application/parquet", "application/x-parquet":
		return mediaType == "application/vnd.apache.parquet"
	case "application/ndjson", "application/jsonl":
		return mediaType == "application/x-ndjson"
	}
	family, all := strings.CutSuffix(pattern, "/*")
	return all && strings.HasPrefix(mediaType, family+"/")
}

// writeJSON writes {"columns":[{"name","type"},…],"rows":[[…],…],"row_count":n,"truncated":b}.
func writeJSON(w io.Writer, r Result) error {
	out := bufio.NewWriterSize(w, 64<<10)
	buf := []byte(`{"columns":[`)
	columns := r.Columns()
	for i, c := range columns {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"name":`...)
		buf = appendJSON(buf, c.Name, "")
		buf = append(buf, `,"type":`...)
		buf = append(appendJSON(buf, c.Type, ""), '}')
	}
	buf = append(buf, `],"rows":[`...)
	n := 0
	for row, err := range r.Rows() {
		if err != nil {
			return err
		}
		if n > 0 {
			buf = append(buf, ',')
		}
		n++
		buf = append(buf, "\n["...)
		for i, v := range row {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = appendJSON(buf, v, columns[i].Type)
		}
		buf = append(buf, ']')
		if _, err := out.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	buf = fmt.Appendf(buf, "],\"row_count\":%d,\"truncated\":%t}\n", n, r.Truncated())
	if _, err := out.Write(buf); err != nil {
		return err
	}
	return out.Flush()
}

// writeNDJSON writes an object a line. Of two columns with one name the later is named name_2 and so on.
func writeNDJSON(w io.Writer, r Result) error {
	out := bufio.NewWriterSize(w, 64<<10)
	columns := r.Columns()
	names := uniqueNames(columns)
	var buf []byte
	for row, err := range r.Rows() {
		if err != nil {
			return err
		}
		buf = append(buf[:0], '{')
		for i, v := range row {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = append(appendJSON(buf, names[i], ""), ':')
			buf = appendJSON(buf, v, columns[i].Type)
		}
		if _, err := out.Write(append(buf, '}', '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}

// uniqueNames returns the columns' names, later ones of the same name with a number.
func uniqueNames(columns []Column) []string {
	names := make([]string, len(columns))
	taken := make(map[string]bool, len(columns))
	for i, c := range columns {
		name := c.Name
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s_%d", c.Name, n)
		}
		names[i], taken[name] = name, true
	}
	return names
}

// writeCSV writes RFC 4180 with a line of names; a null is nothing between two commas, an empty text is "".
func writeCSV(w io.Writer, r Result) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var buf []byte
	columns := r.Columns()
	for i, c := range columns {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendField(buf, c.Name)
	}
	buf = append(buf, '\n')
	if _, err := out.Write(buf); err != nil {
		return err
	}
	for row, err := range r.Rows() {
		if err != nil {
			return err
		}
		buf = buf[:0]
		for i, v := range row {
			if i > 0 {
				buf = append(buf, ',')
			}
			if v != nil {
				buf = appendField(buf, Text(v, columns[i].Type))
			}
		}
		if _, err := out.Write(append(buf, '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}

func appendField(dst []byte, s string) []byte {
	if s != "" && !strings.ContainsAny(s, "\",\r\n") && s[0] != ' ' && s[len(s)-1] != ' ' {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}
