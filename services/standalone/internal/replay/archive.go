package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone/internal/scan"
)

// Files says where the archive of history is: on disk, or in a bucket; the zero Files has none.
type Files struct {
	Dir      string         // of the files
	Manifest string         // that names them
	Bucket   archive.Bucket // in place of Dir
	Scratch  string         // directory for what is needed meanwhile; made, and removed at the end
	Memory   int64          // bytes that sorting may take; beyond it goes to Scratch
	Ahead    time.Duration  // by how much an event may be later than its message was taken
}

// Cold is an open archive, whose files stay until Close even when they are merged or removed where they were.
type Cold struct {
	db      *duckdb.DB
	files   []string
	lacks   []string // what people must know of files that cannot be read
	scratch string
}

// ErrRestless is returned by OpenFiles when the files change more quickly than they can be noted.
var ErrRestless = errors.New("the files of history change too quickly: try again")

// OpenFiles holds those files that can have a message that was taken from a moment on until another. nil where there is no archive.
func OpenFiles(ctx context.Context, f Files, from, to telemetry.Time, log *slog.Logger, now func() time.Time) (*Cold, error) {
	if f.Dir == "" && f.Bucket == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	if err := os.RemoveAll(f.Scratch); err != nil { // of one that was killed
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	dir := filepath.Join(f.Scratch, "files")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	c := &Cold{scratch: f.Scratch}
	var err error
	if f.Bucket != nil {
		c.files, err = fetch(ctx, f, dir, from, to)
	} else {
		c.files, c.lacks, err = hold(f, dir, from)
	}
	if err == nil {
		c.db, err = duckdb.Open(ctx, duckdb.Config{
			Path: filepath.Join(f.Scratch, "sort.duckdb"), MemoryLimit: f.Memory, TempLimit: 1 << 40, ArchiveDir: dir, History: c, Log: log, Now: now,
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the archive: %w", err), c.Close())
	}
	return c, nil
}

// hold links the files that the manifest names, or copies them where the disk is another.
func hold(f Files, dir string, from telemetry.Time) (files, lacks []string, err error) {
	const rounds = 20
	for range rounds {
		named, damaged, err := parquet.Named(f.Manifest)
		if err != nil {
			return nil, nil, err
		}
		var held []string
		for i, info := range named {
			if info.Closed < from { // a file has no row that came after it was written
				continue
			}
			path := filepath.Join(dir, fmt.Sprintf("%d.parquet", i))
			if err = link(filepath.Join(f.Dir, filepath.FromSlash(info.Path)), path); err != nil {
				break
			}
			held = append(held, path)
		}
		if err == nil {
			for _, d := range damaged {
				if d.Restored < d.Rows {
					lacks = append(lacks, "the archive lacks rows: "+d.String())
				}
			}
			return held, lacks, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		for _, path := range held { // one was merged into another meanwhile
			if err := os.Remove(path); err != nil {
				return nil, nil, err
			}
		}
	}
	return nil, nil, ErrRestless
}

func link(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := os.Open(from) //nolint:gosec // a file of the archive
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.Create(to)         //nolint:gosec // in our own directory
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// fetch copies the files of a bucket.
func fetch(ctx context.Context, f Files, dir string, from, to telemetry.Time) ([]string, error) {
	last := "dt=" + to.Add(f.Ahead).Std().Format("2006-01-02") + "~"
	var held []string
	for o, err := range archive.Files(ctx, f.Bucket) {
		if err != nil {
			return nil, err
		}
		if telemetry.At(o.Modified) < from || o.Key > last {
			continue
		}
		body, err := f.Bucket.Read(ctx, o.Key, 0, -1)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", o.Key, err)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.parquet", len(held)))
		if err := os.WriteFile(path, body, 0o600); err != nil {
			return nil, err
		}
		held = append(held, path)
	}
	return held, nil
}

// Close lets the files go.
func (c *Cold) Close() error {
	var err error
	if c.db != nil {
		err = c.db.Close()
	}
	return errors.Join(err, os.RemoveAll(c.scratch))
}

// Snapshot implements store.History.
func (c *Cold) Snapshot() (store.HistorySnapshot, error) { return held(c.files), nil } //nolint:ireturn // as the interface says

// held are files that stay.
type held []string

func (h held) Files() []string                    { return h }
func (h held) Rows(func([]store.MessageRow) bool) {}
func (h held) RowCount() int                      { return 0 }
func (h held) Release()                           {}

// slice is what is wanted of one share of the archive.
type slice struct {
	share         int
	from, to      telemetry.Time // of ingest
	after, before bus.Position   // of origins, both exclusive; a zero before is the end
}

const rowsQuery = `SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id, kind,
	device_time, properties, attributes, source, credential, codec, origin_position FROM archive
	WHERE origin_partition = ? AND ingest_time >= make_timestamp_ns(?) AND ingest_time < make_timestamp_ns(?) AND origin_position > ? AND origin_position < ?
	ORDER BY origin_position`

// rows yields the messages of s in the order of their origins.
func (c *Cold) rows(ctx context.Context, s slice) iter.Seq2[store.MessageRow, error] {
	return func(yield func(store.MessageRow, error) bool) {
		if len(c.files) == 0 {
			return
		}
		after, before, err := s.packed()
		if err != nil {
			yield(store.MessageRow{}, fmt.Errorf("read the archive: %w", err))
			return
		}
		for r, err := range scan.Query(ctx, c.db, rowsQuery, s.share, int64(s.from), int64(s.to), after, before) {
			var row store.MessageRow
			if err == nil {
				row, err = rowOf(r, int32(s.share)) //nolint:gosec // partitions are few
			}
			if err != nil {
				err = fmt.Errorf("read the archive: %w", err)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// packed returns between which positions s is, as the archive has them.
func (s *slice) packed() (after, before int64, err error) {
	after, before = -1, math.MaxInt64
	if !s.after.IsZero() {
		if after, err = store.PackPosition(s.after); err != nil {
			return 0, 0, err
		}
	}
	if !s.before.IsZero() {
		before, err = store.PackPosition(s.before)
	}
	return after, before, err
}

// foreign counts the rows of the time whose origin is of no partition of the log.
func (c *Cold) foreign(ctx context.Context, from, to telemetry.Time, partitions int) (n int64, err error) {
	if len(c.files) == 0 {
		return 0, nil
	}
	for r, err := range scan.Query(ctx, c.db, `SELECT count(*) FROM archive WHERE (origin_partition < 0 OR origin_partition >= ?)
		AND ingest_time >= make_timestamp_ns(?) AND ingest_time < make_timestamp_ns(?)`, partitions, int64(from), int64(to)) {
		if err != nil {
			return 0, fmt.Errorf("read the archive: %w", err)
		}
		n = scan.As[int64](r[0])
	}
	return n, nil
}

func rowOf(r []any, share int32) (store.MessageRow, error) {
	props, err := store.ParseProperties(nil, []byte(scan.As[string](r[12])))
	row := store.MessageRow{
		Message: telemetry.Message{
			Tenant: scan.As[string](r[0]), DeviceID: scan.As[string](r[1]), DeviceType: scan.As[string](r[2]), ChannelKey: scan.As[string](r[3]), ChannelType: scan.As[string](r[4]),
			ChannelValue: []byte(scan.As[string](r[5])), EventTime: scan.Time(r[7]), IngestTime: scan.Time(r[8]), MessageID: scan.As[string](r[9]),
			Kind: store.ParseKind(scan.As[string](r[10])), DeviceTime: scan.Time(r[11]), Source: scan.As[string](r[14]), Credential: scan.As[string](r[15]),
			Codec: scan.As[string](r[16]), Properties: props,
		},
		Origin: bus.Origin{Partition: share, Position: store.UnpackPosition(scan.As[int64](r[17]))},
	}
	row.Value, row.HasValue = r[6].(float64)
	if attributes := scan.As[string](r[13]); attributes != "" {
		row.Attributes = []byte(attributes)
	}
	return row, err
}
