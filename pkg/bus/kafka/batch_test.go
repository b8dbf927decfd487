package kafka

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/millrace/millrace/pkg/bus"
)

func packerOf(tb testing.TB, with Compression) *packer {
	tb.Helper()
	p, err := newPacker(with)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.close)
	return p
}

// batchOf makes a batch as Append does.
func batchOf(tb testing.TB, p *packer, recs []bus.Record, at int64, id identity) []byte {
	tb.Helper()
	batch, codec, err := p.pack(appendBatchHeader(nil, len(recs), at, id), appendRecords(nil, recs))
	if err != nil {
		tb.Fatal(err)
	}
	sealBatch(batch, codec)
	return batch
}

func sampleRecords() []bus.Record {
	return []bus.Record{
		{Value: []byte("first"), Origin: bus.Origin{Partition: 3, Position: bus.Position{Seq: 81, Index: 5}}},
		{Value: []byte{}},
		{Value: bytes.Repeat([]byte("long "), 300), Origin: bus.Origin{Partition: -2, Position: bus.Position{Seq: 1<<64 - 1, Index: 1<<32 - 1}}},
	}
}

// The bytes of a batch are what other producers and consumers agree on, so they stand in a file.
func TestABatchHasTheBytesOfTheFormat(t *testing.T) {
	recs := sampleRecords()[:2]
	got := hex.Dump(batchOf(t, packerOf(t, None), recs, 1_700_000_000_123, identity{producer: 7, epoch: 1, sequence: 42}))
	file := filepath.Join("testdata", "batch.hex")
	if os.Getenv("MILLRACE_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// kafka-go has a decoder of its own, which must read the same.
func TestAnotherClientReadsWhatABatchHolds(t *testing.T) {
	for _, with := range []Compression{None, Snappy, Lz4, Zstd} {
		t.Run(string(with), func(t *testing.T) {
			recs := sampleRecords()
			batch := batchOf(t, packerOf(t, with), recs, 1_700_000_000_123, identity{producer: 7})
			var set protocol.RecordSet
			if _, err := set.ReadFrom(bytes.NewBuffer(append(appendInt32(nil, int32(len(batch))), batch...))); err != nil {
				t.Fatal(err)
			}
			for i, want := range recs {
				got, err := set.Records.ReadRecord()
				if err != nil {
					t.Fatal(err)
				}
				value, err := protocol.ReadAll(got.Value)
				if err != nil || !bytes.Equal(value, want.Value) || got.Key != nil || got.Time.UnixMilli() != 1_700_000_000_123 {
					t.Errorf("record %d: %q at %v, key %v (%v)", i, value, got.Time, got.Key, err)
				}
				if known := want.Origin.Known(); known != (len(got.Headers) == 1) || known && got.Headers[0].Key != originHeader {
					t.Errorf("record %d has headers %v", i, got.Headers)
				}
			}
		})
	}
}

func TestABatchIsReadBackFromAnyOffsetWithinIt(t *testing.T) {
	for _, with := range []Compression{None, Snappy, Lz4, Zstd} {
		t.Run(string(with), func(t *testing.T) {
			p, recs := packerOf(t, with), sampleRecords()
			batch := batchOf(t, p, recs, 1_700_000_000_123, identity{})
			for from := range recs {
				got, ok, err := (&batchReader{packer: p, rest: batch, from: int64(from)}).read(nil)
				if err != nil || !ok || len(got) != len(recs)-from {
					t.Fatalf("from %d: %d records, %v, %v", from, len(got), ok, err)
				}
				for i, r := range got {
					want := recs[from+i]
					if !bytes.Equal(r.Value, want.Value) || r.Origin != want.Origin || r.Position.Seq != uint64(from+i+1) || r.Time != 1_700_000_000_123e6 {
						t.Errorf("from %d: record %d is %v", from, i, r)
					}
				}
			}
		})
	}
}

func TestABatchThatIsBrokenIsAnErrorAndOneThatIsCutShortIsLeft(t *testing.T) {
	p := packerOf(t, Zstd)
	batch := batchOf(t, p, sampleRecords(), 0, identity{})
	for i := range batch {
		recs, ok, err := (&batchReader{packer: p, rest: batch[:i]}).read(nil)
		if len(recs) > 0 || ok || err != nil {
			t.Fatalf("of %d bytes: %v, %v, %v", i, recs, ok, err)
		}
	}
	for i := atMagic; i < len(batch); i++ { // what is before it has no checksum, but the broker sets it
		broken := slices.Clone(batch)
		broken[i] ^= 0x10
		if recs, _, err := (&batchReader{packer: p, rest: broken}).read(nil); err == nil {
			t.Fatalf("with byte %d changed: %v", i, recs)
		}
	}
}

func TestASequenceBeginsAgainAfterTheLargest(t *testing.T) {
	for _, c := range []struct{ from, n, want int }{{0, 5, 5}, {1<<31 - 2, 1, 1<<31 - 1}, {1<<31 - 2, 2, 0}, {1<<31 - 1, 3, 2}} {
		if got := (identity{sequence: int32(c.from)}).following(c.n).sequence; int(got) != c.want {
			t.Errorf("%d records after %d: %d, want %d", c.n, c.from, got, c.want)
		}
	}
}

func TestABatchTakesWhatFitsAndAtLeastOneRecord(t *testing.T) {
	recs := make([]bus.Record, 10)
	for i := range recs {
		recs[i].Value = make([]byte, 1000)
	}
	if n := fitting(recs, 5000); n != 4 {
		t.Errorf("%d records in 5000 bytes", n)
	}
	if n := fitting(recs, 10); n != 1 {
		t.Errorf("%d records in 10 bytes", n)
	}
	if n := fitting(recs, 1<<20); n != 10 {
		t.Errorf("%d records in a megabyte", n)
	}
}

func FuzzReadBatches(f *testing.F) {
	for _, with := range []Compression{None, Snappy, Lz4, Zstd} {
		f.Add(batchOf(f, packerOf(f, with), sampleRecords(), 5, identity{}), int64(1))
	}
	p := packerOf(f, None)
	f.Fuzz(func(t *testing.T, data []byte, from int64) {
		if len(data) >= batchHeader { // else the checksum lets nothing through
			copyOf := slices.Clone(data)
			sealBatch(copyOf, int16(copyOf[atAttributes+1]))
			data = copyOf
		}
		b := batchReader{packer: p, rest: data, from: from}
		for {
			recs, ok, err := b.read(nil)
			if err != nil && len(recs) > 0 {
				t.Fatalf("%d records beside an error", len(recs))
			}
			if err != nil || !ok {
				break
			}
		}
		_, _ = endOf(data, from)
		_, _ = parseFetched(data)
		_, _ = parseProduced(data)
		_, _, _ = parseOffset(data)
		_, _, _ = parseDeleted(data)
	})
}

func FuzzParseCommit(f *testing.F) {
	progress := bus.Progress{Through: bus.Position{Seq: 9}, Origins: bus.Origins{{Partition: 1, Position: bus.Position{Seq: 8}}}}
	metadata, _ := commitMetadata(progress, nil)
	f.Add(int64(9), metadata)
	f.Add(int64(0), "")
	f.Fuzz(func(t *testing.T, offset int64, metadata string) {
		p, exists := parseCommit(offset, metadata)
		if exists != (offset >= 0) || exists && p.Through.Seq != uint64(offset) {
			t.Errorf("offset %d: %v, %v", offset, p, exists)
		}
	})
}

func FuzzParseClaim(f *testing.F) {
	f.Add(appendClaim(nil, claimant{generation: 3, shares: []int{0, 5}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseClaim("m", data)
		if err == nil {
			again, err := parseClaim("m", appendClaim(nil, c))
			if err != nil || again.generation != c.generation || !slices.Equal(again.shares, c.shares) {
				t.Errorf("%v became %v (%v)", c, again, err)
			}
		}
	})
}

func TestACommitKeepsItsOriginsOrTheNewestOfThem(t *testing.T) {
	progress := bus.Progress{Through: bus.Position{Seq: 1 << 40}}
	for n := range 1024 {
		progress.Origins = append(progress.Origins, bus.Origin{Partition: int32(n), Position: bus.Position{Seq: uint64(n) << 20}})
	}
	few := bus.Progress{Through: progress.Through, Origins: progress.Origins[:200]}
	metadata, dropped := commitMetadata(few, nil)
	if p, ok := parseCommit(1<<40, metadata); dropped != 0 || !ok || !slices.Equal(p.Origins, few.Origins) {
		t.Errorf("of %d origins %d were dropped", len(few.Origins), dropped)
	}
	before := slices.Clone(progress.Origins)
	for _, n := range []int{17, 1000} {
		progress.Origins[n].Seq++
	}
	metadata, dropped = commitMetadata(progress, before)
	p, ok := parseCommit(1<<40, metadata)
	if !ok || len(metadata) > metadataMax || dropped != len(progress.Origins)-len(p.Origins) || len(p.Origins) < 300 {
		t.Fatalf("%d bytes with %d origins, %d dropped", len(metadata), len(p.Origins), dropped)
	}
	for _, n := range []int{17, 1000} {
		if !slices.Contains(p.Origins, progress.Origins[n]) {
			t.Errorf("origin %d, which has risen, was dropped", n)
		}
	}
}

func TestAnOffsetThatWasResetCountsMoreThanTheMetadata(t *testing.T) {
	metadata, _ := commitMetadata(bus.Progress{Through: bus.Position{Seq: 9}}, nil)
	for _, c := range []struct {
		offset   int64
		metadata string
		want     bus.Position
	}{{9, metadata, bus.Position{Seq: 9}}, {4, metadata, bus.Position{Seq: 4}}, {4, "", bus.Position{Seq: 4}}, {0, "reset", bus.Position{Index: 1}}} {
		if p, ok := parseCommit(c.offset, c.metadata); !ok || p.Through != c.want {
			t.Errorf("offset %d with %q: %v, want %v", c.offset, c.metadata, p.Through, c.want)
		}
	}
	if _, ok := parseCommit(-1, ""); ok {
		t.Error("nothing was committed")
	}
}

func TestPackedValuesShrinkAndRandomOnesStayAsTheyAre(t *testing.T) {
	plain := []byte(strings.Repeat(`{"channel":"temperature","value":21.5}`, 100))
	for with, code := range map[Compression]int16{None: codeNone, Snappy: codeSnappy, Lz4: codeLz4, Zstd: codeZstd} {
		p := packerOf(t, with)
		packed, got, err := p.pack([]byte("before"), plain)
		if err != nil || got != code || with != None && len(packed) > len(plain)/2 {
			t.Errorf("%s: %d bytes of %d, code %d (%v)", with, len(packed), len(plain), got, err)
		}
		if back, err := p.unpack(packed[len("before"):], got); err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%s: %d bytes came back (%v)", with, len(back), err)
		}
	}
}
