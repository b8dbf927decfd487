package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	benchRows  = 500_000
	benchBatch = 10_000
)

// fleet makes the messages of 1,000 devices with two channels each.
func fleet() [][]store.MessageRow {
	random := rand.New(rand.NewPCG(1, 2))
	var batches [][]store.MessageRow
	for from := 0; from < benchRows; from += benchBatch {
		rows := make([]store.MessageRow, benchBatch)
		for i := range rows {
			k := from + i
			at := telemetry.Time(1_700_002_800_000_000_000 + int64(k/2000)*1e9 + random.Int64N(1e7)*100)
			value := float64(2000+random.IntN(500)) / 100
			rows[i] = store.MessageRow{
				Message: telemetry.Message{
					Tenant: "default", DeviceID: fmt.Sprintf("device-%04d", k%1000), DeviceType: "RaspberryPiGateway_v1", Kind: telemetry.KindChannel,
					ChannelKey: [2]string{"temperature", "humidity"}[k/1000%2], ChannelType: "number", ChannelValue: fmt.Append(nil, value), Value: value,
					HasValue: true, EventTime: at, IngestTime: at + 1e8, MessageID: fmt.Sprintf("%016x", random.Uint64()),
					Source: "mqtt", Credential: "key-1", Codec: "channel",
				},
				Origin: bus.Origin{Partition: int32(k % 4), Position: bus.Position{Seq: uint64(k/200 + 1), Index: uint32(k % 200)}},
			}
		}
		batches = append(batches, rows)
	}
	return batches
}

func fill(b *testing.B, to archive.Bucket, batches [][]store.MessageRow) {
	b.Helper()
	a := open(b, config(to))
	for i, rows := range batches {
		write(b, a, commit(0, uint64(i), uint64(i+1)), rows)
	}
	flush(b, a)
	crash(b, a)
}

// BenchmarkArchive writes and flushes half a million rows of one hour.
func BenchmarkArchive(b *testing.B) {
	batches := fleet()
	for name, to := range kinds() {
		b.Run(name, func(b *testing.B) {
			to := to(b)
			for b.Loop() {
				fill(b, to, batches)
				b.StopTimer()
				empty(b, to)
				b.StartTimer()
			}
			b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkUploader is what the client library does at best: it uploads the bytes of the same rows, ready-made.
func BenchmarkUploader(b *testing.B) {
	e := enginetest.Need(b, "s3")
	folder := inFolder(b)
	fill(b, folder, fleet())
	var body []byte
	for o, err := range archive.Files(b.Context(), folder) {
		if err == nil {
			body, err = folder.Read(b.Context(), o.Key, 0, -1)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(e.Get("endpoint")), Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(e.Get("access_key"), e.Get("secret_key"), ""),
	})
	uploader := transfermanager.New(client)
	key := "bench-of-the-uploader"
	for b.Loop() {
		_, err := uploader.UploadObject(b.Context(), &transfermanager.UploadObjectInput{
			Bucket: aws.String(e.Get("bucket")), Key: aws.String(key), Body: bytes.NewReader(body),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(len(body)), "B")
	ctx := context.WithoutCancel(b.Context())
	if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(e.Get("bucket")), Key: aws.String(key)}); err != nil {
		b.Error(err)
	}
}

// BenchmarkEncode is the part of BenchmarkArchive that has nothing to do with a bucket.
func BenchmarkEncode(b *testing.B) {
	batches := fleet()
	for b.Loop() {
		fill(b, nowhere{inFolder(b)}, batches)
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// nowhere forgets the files that it is given.
type nowhere struct{ archive.Bucket }

func (n nowhere) Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error {
	if exclusive {
		return n.Bucket.Write(ctx, key, true, fill)
	}
	return fill(io.Discard)
}

func (nowhere) Copy(context.Context, string, string) error { return nil }
