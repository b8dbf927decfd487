package books

import (
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// What a breach is.
const (
	Missing    = "missing"    // the log has given it to a store, which does not have it
	Doubled    = "doubled"    // a store has it more than once
	Unexpected = "unexpected" // a store has it, and the log has not
	Lost       = "lost"       // it was acknowledged, and the log does not have it
)

// Report is what an audit found. Lists are in the order of tenant, device and partition.
type Report struct {
	From     time.Time `json:"from"` // as rounded
	To       time.Time `json:"to"`
	Balanced bool      `json:"balanced"` // there is no breach
	// Complete says that the books tell of all of the time asked for; if not, Notes say what they do not tell of.
	Complete bool           `json:"complete"`
	Notes    []string       `json:"notes"`
	Stores   []StoreReport  `json:"stores"` // totals
	Total    DeviceReport   `json:"total"`
	Devices  []DeviceReport `json:"devices"`
	// DevicesTotal is how many devices there are; Devices may have fewer.
	DevicesTotal int      `json:"devices_total"`
	Breaches     []Breach `json:"breaches"`
	// BreachesMore is how many breaches are beyond those that are named.
	BreachesMore int `json:"breaches_more"`
}

// DeviceReport is the account of one device and partition. On the log are Accepted + Uncounted - Lost messages, which are
// Read + Unread; Read is Repeats + Refused + Telemetry + Logs + Events + Elsewhere.
type DeviceReport struct {
	Tenant    string `json:"tenant"`
	DeviceID  string `json:"device_id"`
	Partition int32  `json:"partition"`
	// Accepted were acknowledged by the log to an edge. Uncounted are on the log without an edge's account: the answer was lost, or
	// the edge was killed before it wrote its account of the last second, or they were put back by an operator.
	Accepted  int64 `json:"accepted"`
	Uncounted int64 `json:"uncounted"`
	Lost      int64 `json:"lost"`
	Unread    int64 `json:"unread"` // wait for the router, or for its account
	Read      int64 `json:"read"`
	Repeats   int64 `json:"repeats"`
	Refused   int64 `json:"dead_letters"` // of the router
	Telemetry int64 `json:"telemetry"`
	Logs      int64 `json:"logs"`
	Events    int64 `json:"events"`
	Elsewhere int64 `json:"elsewhere"` // sent to topics of a route's own alone
	// EdgeLetters were refused by the edge as no message, and are beside Accepted.
	EdgeLetters int64 `json:"edge_dead_letters"`
	// LettersMissing are dead letters of edge and router that the table dead_letters does not have yet, or has lost.
	LettersMissing int64         `json:"dead_letters_missing"`
	Stores         []StoreReport `json:"stores"`
}

// StoreReport is what a store has. Expected is Stored + OnTheWay + DeadLetters + Missing - Doubled - Unexpected, but for what came
// while the audit ran.
type StoreReport struct {
	Table       string `json:"table"`
	Expected    int64  `json:"expected"`
	Stored      int64  `json:"stored"`
	OnTheWay    int64  `json:"on_the_way"`
	DeadLetters int64  `json:"dead_letters"` // of the store's worker
	Missing     int64  `json:"missing"`
	Doubled     int64  `json:"doubled"`
	Unexpected  int64  `json:"unexpected"`
}

// Breach is a message, or a number of them that cannot be named, which is not where it must be. Partition and Position are its
// origin: where it stands in the topic ingested.
type Breach struct {
	What          string     `json:"what"`
	Table         string     `json:"table,omitempty"`
	Tenant        string     `json:"tenant"`
	DeviceID      string     `json:"device_id"`
	Partition     int32      `json:"partition"`
	Position      string     `json:"position,omitempty"`
	Topic         string     `json:"topic,omitempty"`
	TopicPosition string     `json:"topic_position,omitempty"`
	ChannelKey    string     `json:"channel_key,omitempty"`
	MessageID     string     `json:"message_id,omitempty"`
	EventTime     *time.Time `json:"event_time,omitempty"`
	IngestTime    *time.Time `json:"ingest_time,omitempty"`
	Count         int64      `json:"count"`
	Detail        string     `json:"detail,omitempty"`
}

func moment(t telemetry.Time) *time.Time {
	at := t.Std().UTC()
	return &at
}

func (r *run) report() *Report {
	all := r.sorted()
	lost := r.lost(all)
	report := &Report{From: r.from().Std().UTC(), To: r.to().Std().UTC(), Devices: []DeviceReport{}, Breaches: []Breach{}, Notes: []string{}}
	report.Total.Stores = r.blank()
	for _, d := range all {
		one := d.report(r, lost[d])
		report.Total.add(&one)
		report.Devices = append(report.Devices, one)
	}
	report.Stores = slices.Clone(report.Total.Stores)
	report.DevicesTotal = len(report.Devices)
	if most := r.q.Devices; most > 0 && len(report.Devices) > most {
		slices.SortStableFunc(report.Devices, func(a, b DeviceReport) int {
			return a.rank() - b.rank()
		})
		report.Devices = report.Devices[:most]
		r.note("%d of %d devices are shown, those with a breach first", most, len(all))
	}
	if report.Total.LettersMissing > 0 {
		r.note("%d dead letters of edge and router are not in %s yet: they are on the way, or missing", report.Total.LettersMissing, store.TableDeadLetters)
	}
	report.Breaches = append(report.Breaches, r.breaches...)
	report.BreachesMore = r.unnamed
	report.Notes = append(report.Notes, r.notes...)
	report.Complete = r.complete
	report.Balanced = len(report.Breaches) == 0
	return report
}

// lost returns what the log acknowledged and does not have. Devices that an edge could not count one by one are made up for by those
// of which the log has more than was counted.
func (r *run) lost(all []*device) map[*device]int64 {
	lost, spare := map[*device]int64{}, map[int32]int64{}
	if !r.complete {
		return lost
	}
	for _, d := range all {
		if more := signed(d.read+d.unread) - signed(d.accepted); more > 0 {
			spare[d.partition] += more
		}
	}
	for _, d := range all {
		gone := signed(d.accepted) - signed(d.read+d.unread)
		if d.device == Unnamed {
			gone -= spare[d.partition]
		}
		if gone <= 0 {
			continue
		}
		lost[d] = gone
		r.breach(&Breach{
			What: Lost, Tenant: d.tenant, DeviceID: d.device, Partition: d.partition, Count: gone,
			Detail: "acknowledged to their senders, and the topic ingested does not have them",
		})
	}
	return lost
}

func (r *run) blank() []StoreReport {
	stores := make([]StoreReport, len(r.Stores))
	for i, s := range r.Stores {
		stores[i].Table = s.Table
	}
	return stores
}

func (d *device) report(r *run, lost int64) DeviceReport {
	one := DeviceReport{
		Tenant: d.tenant, DeviceID: d.device, Partition: d.partition, Accepted: signed(d.accepted), Unread: signed(d.unread),
		Read: signed(d.read), Repeats: signed(d.repeats), Refused: signed(d.refused), Telemetry: signed(d.telemetry), Logs: signed(d.logs),
		Events: signed(d.events), EdgeLetters: signed(d.edgeLetters), Lost: lost, Stores: r.blank(),
	}
	one.Uncounted = max(0, one.Read+one.Unread-one.Accepted)
	one.Elsewhere = one.Read - one.Repeats - one.Refused - one.Telemetry - one.Logs - one.Events
	if r.Letters != nil {
		one.LettersMissing = max(0, signed(d.edgeLetters+d.routerLetters)-signed(d.lettersStored))
	}
	for i := range one.Stores {
		s, h := &one.Stores[i], &d.stores[i]
		s.Expected, s.Stored, s.OnTheWay = d.routed(r.Stores[i].Topics), h.rows, h.onTheWay
		s.DeadLetters, s.Missing, s.Doubled, s.Unexpected = h.letters, h.missing, h.doubled, h.unexpected
	}
	return one
}

// rank puts devices with a breach first.
func (d *DeviceReport) rank() int {
	if d.Lost > 0 || slices.ContainsFunc(d.Stores, func(s StoreReport) bool { return s.Missing+s.Doubled+s.Unexpected > 0 }) {
		return 0
	}
	return 1
}

// add adds up a total.
func (d *DeviceReport) add(one *DeviceReport) {
	for _, sum := range []struct {
		to  *int64
		add int64
	}{
		{&d.Accepted, one.Accepted},
		{&d.Uncounted, one.Uncounted},
		{&d.Lost, one.Lost},
		{&d.Unread, one.Unread},
		{&d.Read, one.Read},
		{&d.Repeats, one.Repeats},
		{&d.Refused, one.Refused},
		{&d.Telemetry, one.Telemetry},
		{&d.Logs, one.Logs},
		{&d.Events, one.Events},
		{&d.Elsewhere, one.Elsewhere},
		{&d.EdgeLetters, one.EdgeLetters},
		{&d.LettersMissing, one.LettersMissing},
	} {
		*sum.to += sum.add
	}
	for i := range d.Stores {
		t, o := &d.Stores[i], &one.Stores[i]
		t.Expected += o.Expected
		t.Stored += o.Stored
		t.OnTheWay += o.OnTheWay
		t.DeadLetters += o.DeadLetters
		t.Missing += o.Missing
		t.Doubled += o.Doubled
		t.Unexpected += o.Unexpected
	}
}
