package elasticsearch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// book keeps how far the workers of one table have come: one document a worker and partition number, whatever the topics, since
// one share of a worker is the partitions of one number and is committed together. A commit of several numbers changes one
// document after the other; repeating it after a crash in between changes the rest.
type book struct {
	db    *DB
	table string
}

// mark is a document of the book.
type mark struct {
	Table  string      `json:"table"`
	Worker string      `json:"worker"`
	Number int         `json:"number"`
	Topics []topicMark `json:"topics"`
	Tasks  []taskMark  `json:"tasks,omitempty"` // checkpoints
	Redo   *parcel     `json:"redo,omitempty"`  // rows of the last commit, which may not all be there
	Commit int64       `json:"commit"`          // number of the last commit: it rises, and is near the clock in nanoseconds
	Time   json.Number `json:"time"`            // of the last commit, Unix nanoseconds
	id     string      //
	at     place       // where it was read
	there  bool        // it was read, so there is one
}

type topicMark struct {
	Topic   string       `json:"topic"`
	Through string       `json:"through"`
	Origins []originMark `json:"origins,omitempty"`
}

type originMark struct {
	Partition int32  `json:"partition"`
	Position  string `json:"position"`
}

type taskMark struct {
	Task string `json:"task"`
	parcel
}

func (b *book) markID(worker string, number int) string {
	return keyID(b.table, worker, strconv.Itoa(number))
}

func (b *book) read(ctx context.Context, worker string, number int) (*mark, error) {
	m := &mark{Table: b.table, Worker: worker, Number: number, id: b.markID(worker, number)}
	d, err := b.db.readOne(ctx, b.db.name(indexProgress), m.id)
	if err != nil {
		return nil, fmt.Errorf("read progress %s: %w", m.id, err)
	}
	if !d.Found {
		return m, nil
	}
	if err := json.Unmarshal(d.Source, m); err != nil {
		return nil, fmt.Errorf("read progress %s: %w", m.id, err)
	}
	m.at, m.there = d.place(), true
	return m, nil
}

func (m *mark) progress(topic string) (p bus.Progress, ok bool, err error) {
	for _, t := range m.Topics {
		if t.Topic != topic {
			continue
		}
		if p.Through, err = bus.ParsePosition(t.Through); err != nil {
			return p, false, fmt.Errorf("progress %s: %w", m.id, err)
		}
		for _, o := range t.Origins {
			at, err := bus.ParsePosition(o.Position)
			if err != nil {
				return p, false, fmt.Errorf("progress %s: origins: %w", m.id, err)
			}
			p.Origins = append(p.Origins, bus.Origin{Partition: o.Partition, Position: at})
		}
		return p, true, nil
	}
	return p, false, nil
}

func (m *mark) set(s store.Span) {
	t := topicMark{Topic: s.Partition.Topic, Through: s.Through.Through.String()}
	for _, o := range s.Through.Origins {
		t.Origins = append(t.Origins, originMark{o.Partition, o.String()})
	}
	at := slices.IndexFunc(m.Topics, func(t topicMark) bool { return t.Topic == s.Partition.Topic })
	if at < 0 {
		m.Topics = append(m.Topics, t)
		return
	}
	m.Topics[at] = t
}

// Progress implements store.Writer.
func (b *book) Progress(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error) {
	m, err := b.read(ctx, worker, p.Number)
	if err != nil {
		return bus.Progress{}, false, err
	}
	return m.progress(p.Topic)
}

// page is what one commit means for one mark.
type page struct {
	*mark
	spans []store.Span
	done  bool // the mark has it already
	once  bool // the mark was changed beside its spans, so a conflict is not mended by setting them again
}

// open reads the marks of a commit, in the order of their numbers, and compares them with it. lead is a number that takes part
// whether it has spans or not, or -1.
func (b *book) open(ctx context.Context, commit store.Commit, lead int) ([]*page, error) {
	var numbers []int
	if lead >= 0 {
		numbers = append(numbers, lead)
	}
	for _, s := range commit.Spans {
		if !slices.Contains(numbers, s.Partition.Number) {
			numbers = append(numbers, s.Partition.Number)
		}
	}
	if lead < 0 {
		slices.Sort(numbers)
	}
	pages := make([]*page, len(numbers))
	for i, number := range numbers {
		m, err := b.read(ctx, commit.Worker, number)
		if err != nil {
			return nil, err
		}
		pages[i] = &page{mark: m}
		for _, s := range commit.Spans {
			if s.Partition.Number == number {
				pages[i].spans = append(pages[i].spans, s)
			}
		}
		if err := pages[i].compare(); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// compare finds out whether the mark is before the commit, has it already, or has gone another way.
func (p *page) compare() error {
	var unread error
	done, err := store.Fence(p.spans, func(id bus.PartitionID) (bus.Progress, bool) {
		have, ok, err := p.progress(id.Topic)
		unread = errors.Join(unread, err)
		return have, ok
	})
	if unread != nil {
		return unread
	}
	if err != nil {
		return fmt.Errorf("progress %s: %w", p.id, err)
	}
	p.done = done
	return nil
}

// done reports whether a commit has been written entirely.
func done(pages []*page) bool {
	return len(pages) > 0 && !slices.ContainsFunc(pages, func(p *page) bool { return !p.done })
}

// close writes the marks that a commit changes, each if it is as it was read.
func (b *book) close(ctx context.Context, pages []*page) error {
	for _, p := range pages {
		if p.done {
			continue
		}
		if err := b.turn(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// turn writes one mark. Where it has been changed since it was read, the commit is compared with it again: its own write of
// unknown outcome may have arrived, and another topic's progress is no conflict.
func (b *book) turn(ctx context.Context, p *page) error {
	const roundsMax = 10
	for range roundsMax {
		for _, s := range p.spans {
			p.set(s)
		}
		swapped, err := b.swap(ctx, p.mark)
		if err != nil {
			return err
		}
		if swapped {
			p.done = true
			return nil
		}
		fresh, err := b.read(ctx, p.Worker, p.Number)
		if err != nil {
			return err
		}
		p.mark = fresh
		if err := p.compare(); err != nil || p.done {
			return err
		}
		if p.once {
			break
		}
	}
	return fmt.Errorf("write progress %s: %w", p.id, errRounds)
}

// swap writes a mark if it is still as it was read.
func (b *book) swap(ctx context.Context, m *mark) (swapped bool, err error) {
	m.Time = json.Number(strconv.FormatInt(int64(telemetry.At(b.db.cfg.Now())), 10))
	index := b.db.name(indexProgress)
	path := documentPath(index, "_create", m.id)
	if m.there {
		path = documentPath(index, "_doc", m.id) + "?" + url.Values{
			"if_seq_no": {strconv.FormatInt(m.at.seqNo, 10)}, "if_primary_term": {strconv.FormatInt(m.at.term, 10)},
		}.Encode()
	}
	var answer document
	err = b.db.client.call(ctx, http.MethodPut, path, m, &answer)
	if answered(err, http.StatusConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write progress %s: %w", m.id, err)
	}
	m.at, m.there = answer.place(), true
	return true, nil
}

// rowsFirst writes the rows of a commit, then its progress: for rows that may be written again.
func (b *book) rowsFirst(ctx context.Context, commit store.Commit, rows func() error) error {
	if commit.Checkpoint != nil {
		return fmt.Errorf("write %s: it keeps no checkpoints", b.table)
	}
	pages, err := b.open(ctx, commit, -1)
	if err != nil {
		return fmt.Errorf("write %s: %w", b.table, err)
	}
	if done(pages) {
		return nil
	}
	if err := rows(); err != nil {
		return fmt.Errorf("write %s: %w", b.table, err)
	}
	if err := b.close(ctx, pages); err != nil {
		return fmt.Errorf("write %s: %w", b.table, err)
	}
	return nil
}
