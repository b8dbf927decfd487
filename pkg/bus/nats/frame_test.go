package nats_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

func goldenRecords() []bus.Record {
	return []bus.Record{
		{Value: []byte("first")},
		{Value: []byte{}, Position: bus.Position{Index: 1}, Origin: bus.Origin{Partition: 3, Position: bus.Position{Seq: 300, Index: 2}}},
		{Value: []byte{0, 255}, Position: bus.Position{Index: 2}, Origin: bus.Origin{Partition: 1<<31 - 1, Position: bus.Position{Seq: 1<<64 - 1, Index: 1<<32 - 1}}},
	}
}

// A frame that is on disk must be readable by every later version: this file is only ever added to.
func TestTheBytesOfAFrameNeverChange(t *testing.T) {
	path := filepath.Join("testdata", "frame-v1.hex")
	got := hex.EncodeToString(nats.AppendFrame(nil, goldenRecords())) + "\n"
	if os.Getenv("MILLRACE_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	frame, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	recs, err := nats.ParseFrame(nil, frame)
	if err != nil || !reflect.DeepEqual(recs, goldenRecords()) {
		t.Errorf("parsed %v, %v", recs, err)
	}
}

func TestBytesThatAreNoFrameAreRefusedAndDstIsAsItWas(t *testing.T) {
	frame := nats.AppendFrame(nil, goldenRecords())
	cases := map[string][]byte{
		"nothing":                        nil,
		"another version":                append([]byte{3}, frame[1:]...),
		"a packed frame that is none":    append([]byte{2}, frame[1:]...),
		"a packed frame of 4 GiB":        {2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		"text":                           []byte(`{"MessageType":"Channel"}`),
		"a byte too many":                append(bytes.Clone(frame), 0),
		"a count beyond the bytes":       {1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0},
		"a partition beyond 31 bits":     {1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0},
		"a value longer than the frame":  {1, 1, 0, 0, 0, 9, 'x'},
		"a number that does not end":     {1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80},
		"fewer records than the counted": {1, 2, 0, 0, 0, 4, 'a', 'b', 'c', 'd'},
	}
	for i := range frame {
		cases["cut at "+string(rune('a'+i))] = frame[:i]
	}
	given := []bus.Record{{Value: []byte("given")}}
	for name, b := range cases {
		if recs, err := nats.ParseFrame(given, b); err == nil || !reflect.DeepEqual(recs, given) {
			t.Errorf("%s: %v, %v", name, recs, err)
		}
	}
}

// What is packed must be readable by every later version too: the file was written once.
func TestAPackedFrameHoldsWhatWasPacked(t *testing.T) {
	var recs []bus.Record
	for i := range 100 {
		recs = append(recs, bus.Record{Value: []byte("the value of a device that says nearly the same again and again"), Position: bus.Position{Index: uint32(i)}})
	}
	frame := nats.AppendFrame(nil, recs)
	packed := nats.PackFrame(nil, frame)
	if len(packed) > len(frame)/4 {
		t.Errorf("%d bytes packed from %d", len(packed), len(frame))
	}
	path := filepath.Join("testdata", "frame-v2.hex")
	if os.Getenv("MILLRACE_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(packed)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"now": packed, "of the file": old} {
		if got, err := nats.ParseFrame(nil, b); err != nil || !reflect.DeepEqual(got, recs) {
			t.Errorf("packed %s: %d records, %v", name, len(got), err)
		}
	}
	if small := nats.AppendFrame(nil, goldenRecords()); !bytes.Equal(nats.PackFrame(nil, small), small) {
		t.Error("a small frame was packed")
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(nats.AppendFrame(nil, goldenRecords()))
	f.Add(nats.PackFrame(nil, nats.AppendFrame(nil, []bus.Record{{Value: bytes.Repeat([]byte("x"), 1000)}})))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		recs, err := nats.ParseFrame(nil, b)
		if err != nil {
			return
		}
		again, err := nats.ParseFrame(nil, nats.AppendFrame(nil, recs))
		if err != nil || len(again) != len(recs) {
			t.Fatalf("%d records, then %d: %v", len(recs), len(again), err)
		}
		for i := range recs {
			if recs[i].Origin != again[i].Origin || !bytes.Equal(recs[i].Value, again[i].Value) {
				t.Fatalf("record %d: %v, then %v", i, recs[i], again[i])
			}
		}
	})
}
