package telemetry_test

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	panelJSON = `{"MessageType":"Channel","DeviceId":"homecontroller","DeviceType":"RaspberryPiGateway_v1","ChannelType":"json",` +
		`"ChannelKey":"status@secvest","ChannelValue":"{\"Name\":\"Secvest\",\"Partitions\":[{\"id\":\"1\",\"state\":\"unset\",\"zones\":[\"1\",\"2\"]}]}",` +
		`"LocalTimestamp":"2017-04-12T17:05:20.4808507Z"}`
	logJSON = `{"MessageType":"Log","DeviceId":"homecontroller","DeviceType":"RaspberryPiGateway_v1",` +
		`"LocalTimestamp":"2017-04-12T17:05:33.1527207Z","Severity":"Debug","Message":"EverySecondTimerCallback started"}`
	flatJSON  = `{"temperature":21.5,"humidity":40,"open":true,"ts":1492017920480}`
	senmlJSON = `[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076001e+09,"bu":"A","n":"voltage","u":"V","v":120.1},` +
		`{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3}]`
)

const ingestTime = telemetry.Time(1_492_017_930_000_000_000) // 2017-04-12T17:25:30Z

func benchmarkDecode(b *testing.B, in telemetry.Input) {
	b.Helper()
	d := telemetry.NewDecoder(telemetry.Options{})
	in.IngestTime = ingestTime
	var dst []telemetry.Message
	var bad []telemetry.Rejected
	b.SetBytes(int64(len(in.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if dst, bad = d.Decode(dst[:0], in); len(bad) > 0 {
			b.Fatal(bad[0].Err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(dst)), "ns/message")
}

func BenchmarkDecodeChannel(b *testing.B) {
	benchmarkDecode(b, telemetry.Input{Body: []byte(panelJSON), DeviceID: "homecontroller"})
}

func BenchmarkDecodeLog(b *testing.B) {
	benchmarkDecode(b, telemetry.Input{Body: []byte(logJSON), DeviceID: "homecontroller"})
}

func BenchmarkDecodeFlat(b *testing.B) {
	benchmarkDecode(b, telemetry.Input{Body: []byte(flatJSON), DeviceID: "d1"})
}

func BenchmarkDecodeSenML(b *testing.B) { benchmarkDecode(b, telemetry.Input{Body: []byte(senmlJSON)}) }

func BenchmarkDecodeBare(b *testing.B) {
	benchmarkDecode(b, telemetry.Input{Body: []byte("21.5"), DeviceID: "d1", ChannelKey: "temperature"})
}

func BenchmarkDecodeNDJSON(b *testing.B) {
	var body bytes.Buffer
	for i := range 1000 {
		body.WriteString(`{"MessageType":"Channel","DeviceId":"device` + strconv.Itoa(i%10) + `","ChannelKey":"temperature","ChannelValue":` +
			strconv.Itoa(i) + `,"LocalTimestamp":"2017-04-12T17:05:20.4808507Z"}` + "\n")
	}
	benchmarkDecode(b, telemetry.Input{Body: body.Bytes(), ContentType: "application/x-ndjson"})
}

func BenchmarkParseTime(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := telemetry.ParseTime("2017-04-12T17:05:20.4808507Z", nil); err != nil {
			b.Fatal(err)
		}
	}
}
