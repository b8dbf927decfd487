package elasticsearch

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// FuzzDocuments holds every document to one line of JSON that gives back what went in.
func FuzzDocuments(f *testing.F) {
	f.Add("line", []byte("payload"), 1.5, int64(1e18))
	f.Add("größer\n\"\\\u2028", []byte("\xff\\\"\x00\n"), -1e308, int64(-1))
	f.Add("\xff\x00", []byte("tab\t\r"), 5e-324, int64(1))
	f.Fuzz(func(t *testing.T, words string, payload []byte, value float64, at int64) {
		m := storetest.LogLine(1)
		m.Text, m.LogSource, m.ChannelValue = words, words, payload
		m.EventTime, m.DeviceTime = telemetry.Time(at), telemetry.Time(at)
		m.Properties = []telemetry.Property{{Key: words, Value: words}}
		if finite(value) {
			m.Value, m.HasValue = value, true
		}
		d := store.DeadLetterRow{DeadLetter: telemetry.DeadLetter{Reason: words, Payload: payload, ReceivedAt: telemetry.Time(at)}}
		for _, line := range [][]byte{
			closeDocument(appendLog([]byte{'{'}, &m)), closeDocument(appendMessage([]byte{'{'}, &m)), closeDocument(appendDeadLetter([]byte{'{'}, &d)),
		} {
			if bytes.IndexByte(line, '\n') != len(line)-1 {
				t.Fatalf("not one line: %q", line)
			}
			var fields map[string]any
			if err := json.Unmarshal(line, &fields); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if said, ok := fields[fieldText]; ok {
				checkText(t, words, said)
			}
		}
		var back struct {
			Payload string `json:"millrace.payload"`
			Exact   []byte `json:"millrace.payload_bytes"`
		}
		if err := json.Unmarshal(closeDocument(addPayload([]byte{'{'}, payload)), &back); err != nil {
			t.Fatal(err)
		}
		if back.Exact == nil {
			back.Exact = []byte(back.Payload)
		}
		if !bytes.Equal(back.Exact, payload) {
			t.Errorf("payload %q came back as %q", payload, back.Exact)
		}
	})
}

// checkText compares a text with what came back of it: bytes that are no UTF-8 are U+FFFD each.
func checkText(t *testing.T, in string, out any) {
	t.Helper()
	var want strings.Builder
	for _, r := range in {
		want.WriteRune(r)
	}
	if out != want.String() {
		t.Errorf("text %q came back as %q", in, out)
	}
}

func TestItemsAreRefusedForTheirOwnFaultsOnly(t *testing.T) {
	for _, c := range []struct {
		status       int
		kind, reason string
		want         bool
	}{
		{400, "document_parsing_exception", "[1:6] failed to parse field [n] of type [long]", true},
		{400, "mapper_parsing_exception", "failed to parse", true},
		{400, "strict_dynamic_mapping_exception", "mapping set to strict", true},
		{400, "illegal_argument_exception", "Document contains at least one immense term in field=\"x\"", true},
		{400, "illegal_argument_exception", "number of documents in the index cannot exceed 2147483519", false},
		{400, "validation_exception", "this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open", false},
		{400, "index_closed_exception", "closed", false},
		{400, "invalid_index_name_exception", "Invalid index name", false},
		{403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)]", false},
		{403, "security_exception", "action is unauthorized", false},
		{404, "index_not_found_exception", "no such index and [action.auto_create_index] is [false]", false},
		{429, "cluster_block_exception", "disk usage exceeded flood-stage watermark", false},
		{429, "es_rejected_execution_exception", "rejected execution", false},
		{503, "unavailable_shards_exception", "primary shard is not active", false},
	} {
		got := ofTheDocument(&itemAnswer{Status: c.status, Error: &itemFault{Type: c.kind, Reason: c.reason}})
		if got != c.want {
			t.Errorf("%d %s (%s) is the document's fault: %v, want %v", c.status, c.kind, c.reason, got, c.want)
		}
	}
}
