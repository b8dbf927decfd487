package elasticsearch

import (
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/storetest"
)

func BenchmarkEncode(b *testing.B) {
	log, message := storetest.LogLine(7), storetest.Message(7)
	for name, encode := range map[string]func(dst []byte) []byte{
		"log":     func(dst []byte) []byte { return appendLog(dst, &log) },
		"message": func(dst []byte) []byte { return appendMessage(dst, &message) },
		"dead letter": func(dst []byte) []byte {
			return appendDeadLetter(dst, &store.DeadLetterRow{At: log.Origin})
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, 0, 4096)
			for b.Loop() {
				dst = encode(append(dst[:0], '{'))
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}
