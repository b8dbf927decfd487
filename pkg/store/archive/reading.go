package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// Files yields the files of an archive, by their keys, as a reader with a glob sees them.
func Files(ctx context.Context, b Bucket) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for o, err := range (bounded{b}).List(ctx, "dt=") {
			if err == nil && !fileKey.MatchString(o.Key) {
				continue
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// ReadFile yields the rows of a file in their order; the whole file is in memory meanwhile. An error ends it.
func ReadFile(ctx context.Context, b Bucket, key string) iter.Seq2[store.MessageRow, error] {
	return func(yield func(store.MessageRow, error) bool) {
		body, err := bounded{b}.Read(ctx, key, 0, -1)
		if err != nil {
			yield(store.MessageRow{}, err)
			return
		}
		for row, err := range parquetfile.Rows(bytes.NewReader(body), int64(len(body))) {
			if err != nil {
				err = fmt.Errorf("%s is damaged: %w", key, err)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// Day is what an archive holds of one day, UTC, by event time.
type Day struct {
	Day   string // 2026-02-03
	Files int
	Rows  int64
	Bytes int64
}

// Days yields each day of an archive, by its date. It reads the footers of the files, not their rows.
func Days(ctx context.Context, b Bucket) iter.Seq2[Day, error] {
	return func(yield func(Day, error) bool) {
		var day Day
		for o, err := range Files(ctx, b) {
			if err != nil {
				yield(Day{}, err)
				return
			}
			rows, err := CountRows(ctx, b, o)
			if err != nil {
				yield(Day{}, err)
				return
			}
			if d := dayOf(o.Key); d != day.Day {
				if day.Files > 0 && !yield(day, nil) {
					return
				}
				day = Day{Day: d}
			}
			day.Files++
			day.Rows += rows
			day.Bytes += o.Bytes
		}
		if day.Files > 0 {
			yield(day, nil)
		}
	}
}

// CountRows returns how many rows a file has, by its footer.
func CountRows(ctx context.Context, b Bucket, file Object) (int64, error) {
	rows, err := countRows(ctx, bounded{b}, file)
	if err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", file.Key, err)
	}
	return rows, nil
}

func countRows(ctx context.Context, b Bucket, file Object) (int64, error) {
	const guess = 64 << 10 // holds most footers
	at := max(0, file.Bytes-guess)
	body, err := b.Read(ctx, file.Key, at, file.Bytes-at)
	if err != nil {
		return 0, err
	}
	t := &tail{at: at, bytes: body, size: file.Bytes}
	if err := parquetfile.CheckFooter(t, file.Bytes); err != nil {
		return 0, err
	}
	footer := int64(binary.LittleEndian.Uint32(body[len(body)-8:])) + 8
	if footer > int64(len(body)) {
		t.at = file.Bytes - footer
		if t.bytes, err = b.Read(ctx, file.Key, t.at, footer); err != nil {
			return 0, err
		}
	}
	r, err := parquetfile.OpenReader(t, file.Bytes)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return r.NumRows(), nil
}

// tail shows the end of a file whose beginning is the magic and else not at hand.
type tail struct {
	at    int64
	bytes []byte
	size  int64
}

var errNotAtHand = errors.New("only the footer is at hand")

// ReadAt implements io.ReaderAt.
func (t *tail) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 && t.at > 0 && len(p) <= len(parquetfile.Magic) {
		return copy(p, parquetfile.Magic), nil
	}
	if off < t.at {
		return 0, errNotAtHand
	}
	if off >= t.size {
		return 0, io.EOF
	}
	n := copy(p, t.bytes[min(off-t.at, int64(len(t.bytes))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
