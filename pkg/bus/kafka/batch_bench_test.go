package kafka

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

func BenchmarkBatch(b *testing.B) {
	recs := make([]bus.Record, 1000)
	for i := range recs {
		recs[i] = bus.Record{
			Value:  fmt.Appendf(nil, `{"device":"homecontroller-%04d","type":"RaspberryPiGateway_v1","channel":"temperature@room-%d","value":%d.%06d,"time":17%017d,"id":"%016x"}`, i*37%5000, i%17, i%40, i*7919%1000000, i*31_000_003, uint64(i)*0x9e3779b97f4a7c15),
			Origin: bus.Origin{Position: bus.Position{Seq: uint64(i) + 1<<20}},
		}
	}
	plain := appendRecords(nil, recs)
	for _, with := range []Compression{None, Snappy, Lz4, Zstd} {
		p := packerOf(b, with)
		batch := batchOf(b, p, recs, 1, identity{})
		b.Run("encode/"+string(with), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			buf := make([]byte, 0, 1<<20)
			for b.Loop() {
				plain = appendRecords(plain[:0], recs)
				packed, codec, err := p.pack(appendBatchHeader(buf[:0], len(recs), 1, identity{}), plain)
				if err != nil {
					b.Fatal(err)
				}
				sealBatch(packed, codec)
			}
			b.ReportMetric(float64(len(plain))/float64(len(batch)), "ratio")
		})
		b.Run("decode/"+string(with), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			got := make([]bus.Record, 0, len(recs))
			for b.Loop() {
				var err error
				if got, _, err = (&batchReader{packer: p, rest: batch}).read(got[:0]); err != nil || len(got) != len(recs) {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}
