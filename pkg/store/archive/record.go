package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store/gather"
)

const (
	recordVersion = 1
	hidden        = "_millrace" // readers of whole folders (Spark, Hive) pass over what begins with an underscore
)

// record is what a worker's replicas have committed so far. The one with the highest number counts.
type record struct {
	Version  int               `json:"version"`
	Number   uint64            `json:"number"`
	Written  time.Time         `json:"written"`
	Progress []gather.Coverage `json:"progress"`
	// Publish is the files that are committed and may still have to be copied to their place.
	Publish []move `json:"publish,omitempty"`
}

// move is one file's way from where it was staged to where readers look.
type move struct {
	From string `json:"from"`
	To   string `json:"to"`
}

var (
	stagedKey = regexp.MustCompile(`^_millrace/[^/]+/staged/[0-9A-Za-z-]+$`)
	fileKey   = regexp.MustCompile(`^dt=\d{4}-\d{2}-\d{2}/hour=\d{2}/[^/]+\.parquet$`)
)

func workerDir(worker string) string  { return hidden + "/" + url.PathEscape(worker) + "/" }
func recordsDir(worker string) string { return workerDir(worker) + "records/" }
func stagedDir(worker string) string  { return workerDir(worker) + "staged/" }

func recordKey(worker string, number uint64) string {
	return fmt.Sprintf("%s%020d.json", recordsDir(worker), number)
}

// numberOf reads the number in a record's key; false where it is none.
func numberOf(key string) (uint64, bool) {
	text, found := strings.CutSuffix(path.Base(key), ".json")
	number, err := strconv.ParseUint(text, 10, 64)
	return number, found && err == nil
}

func (r *record) write(w io.Writer) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(body, '\n'))
	return err
}

func parseRecord(body []byte) (*record, error) {
	r := new(record)
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON object")
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("version %d, want %d: written by a newer program", r.Version, recordVersion)
	}
	for _, m := range r.Publish {
		if !stagedKey.MatchString(m.From) || !fileKey.MatchString(m.To) {
			return nil, fmt.Errorf("publish: %q to %q, want a staged file and a folder of an hour", m.From, m.To)
		}
	}
	for i := range r.Progress {
		if _, err := r.Progress[i].Progress(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// head is the newest record, read.
type head struct {
	number   uint64 // 0 where there is none
	written  time.Time
	progress map[gather.Source]bus.Progress
	publish  []move
}

func (r *record) head() (*head, error) {
	h := &head{number: r.Number, written: r.Written, publish: r.Publish, progress: make(map[gather.Source]bus.Progress, len(r.Progress))}
	for i := range r.Progress {
		p, err := r.Progress[i].Progress()
		if err != nil {
			return nil, err
		}
		h.progress[r.Progress[i].Source()] = p
	}
	return h, nil
}
