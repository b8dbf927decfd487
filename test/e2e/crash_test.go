package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// ledgerDevice is a device that numbers its messages, writes down what was acknowledged, and sends again what was not, as
// real devices do: the same bytes with the same timestamp.
type ledgerDevice struct {
	id    string
	begin time.Time
	pace  time.Duration // between two messages; 0 is as fast as they are taken

	mu           sync.Mutex
	acknowledged int // messages 0 to acknowledged-1 were
}

func (d *ledgerDevice) message(n int) []byte {
	return fmt.Appendf(nil, `{"DeviceId":%q,"n":%d,"timestamp":%q}`, d.id, n, d.begin.Add(time.Duration(n)*time.Millisecond).Format(time.RFC3339Nano))
}

// window is how many messages a device has under way.
const window = 50

// live sends over one connection after the other until ctx ends; address tells where the instance is now.
func (d *ledgerDevice) live(ctx context.Context, address func() string) {
	for ctx.Err() == nil {
		c, err := mqtt.Dial(ctx, mqtt.ClientOptions{Addr: address(), ClientID: d.id, CleanStart: true, MaxInflight: window})
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		d.session(ctx, c)
		_ = c.Close()
	}
}

func (d *ledgerDevice) session(ctx context.Context, c *mqtt.Client) {
	for n := d.count(); ctx.Err() == nil; n++ {
		if d.pace > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(d.pace):
			}
		}
		err := c.PublishAsync("devices/"+d.id+"/messages/events/", d.message(n), 1, nil, func(err error) {
			if err == nil {
				d.mu.Lock()
				d.acknowledged = max(d.acknowledged, n+1) // acknowledgements come in order
				d.mu.Unlock()
			}
		})
		if err != nil {
			return
		}
	}
	_ = c.Drain(ctx)
}

func (d *ledgerDevice) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acknowledged
}

// ledger is devices that send until finish.
type ledger struct {
	all    []*ledgerDevice
	finish func()
}

// pace is between two messages of a device that leaves the machine time for others.
const pace = 20 * time.Millisecond

// startLedger lets n devices of that name send at a pace; edge tells where to.
func startLedger(t *testing.T, name string, n int, pace time.Duration, edge func() string) *ledger {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &ledger{all: make([]*ledgerDevice, n)}
	begin := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour) // so that every window has ended
	var living sync.WaitGroup
	for i := range l.all {
		l.all[i] = &ledgerDevice{id: name + "-" + strconv.Itoa(i), begin: begin, pace: pace}
		living.Go(func() { l.all[i].live(ctx, edge) })
	}
	l.finish = func() { stop(); living.Wait() }
	t.Cleanup(l.finish)
	return l
}

// more waits until n more messages are acknowledged.
func (l *ledger) more(t *testing.T, n int, when string) {
	t.Helper()
	before := sum(l.all)
	eventually(t, fmt.Sprintf("%d messages are acknowledged %s", n, when), func() error {
		if got := sum(l.all) - before; got < n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// sendThroughKills lets n devices send to an instance that is killed so often, each time after as many more messages as more says. It
// returns the last life and the devices, which have ended.
func sendThroughKills(t *testing.T, name string, n int, pace time.Duration, kills int, more func() int) (*instance, []*ledgerDevice) {
	t.Helper()
	dir := t.TempDir()
	in := run(t, dir)
	var mu sync.Mutex
	addr := in.mqtt
	l := startLedger(t, name, n, pace, func() string { mu.Lock(); defer mu.Unlock(); return addr })
	for kill := range kills {
		l.more(t, more(), fmt.Sprintf("before kill %d", kill))
		in.kill()
		in = run(t, dir)
		mu.Lock()
		addr = in.mqtt
		mu.Unlock()
	}
	l.finish()
	return in, l.all
}

// TestKillLosesAndDoublesNothing kills the process ten times at different moments while devices send and retry. In the end
// every acknowledged message is there, and none is there twice.
func TestKillLosesAndDoublesNothing(t *testing.T) {
	kills := 10
	if testing.Short() {
		kills = 2
	}
	chance := rand.New(rand.NewPCG(1, 2))
	in, devices := sendThroughKills(t, "ledger", 20, 0, kills, func() int { return 200 + chance.IntN(3000) })
	checkLedger(t, in, devices)
}

func sum(devices []*ledgerDevice) int {
	n := 0
	for _, d := range devices {
		n += d.count()
	}
	return n
}

// checkLedger holds the stores against what was acknowledged: each number once, without a gap up to the last acknowledged
// one; beyond it only what was under way when the device stopped.
func checkLedger(t *testing.T, in *instance, devices []*ledgerDevice) {
	t.Helper()
	for _, d := range devices {
		d.check(t, in)
	}
	// Latest state is the newest message, and the windows count what history holds.
	in.wantRows(t, `SELECT count(*) FROM device_state s JOIN (
		SELECT device_id, max(value) AS newest FROM device_messages GROUP BY 1) h USING (device_id) WHERE s.value <> h.newest`, []string{"0"})
	in.wantRows(t, "SELECT count(*) FROM (SELECT device_id, origin_partition, origin_position FROM device_messages GROUP BY ALL HAVING count(*) > 1)", []string{"0"})
	in.wantRows(t, windowsDiffer("10"), []string{"0"})
}

// check waits until history has each number of the device once, without a gap.
func (d *ledgerDevice) check(t *testing.T, in *instance) {
	t.Helper()
	eventually(t, d.id+" has all its messages", func() error {
		const query = "SELECT count(*), count(DISTINCT value), coalesce(max(value), -1)::BIGINT FROM device_messages WHERE device_id = '%s'"
		rows, err := in.query(t.Context(), fmt.Sprintf(query, d.id))
		if err != nil {
			return err
		}
		count, distinct, highest := number(t, rows[0][0]), number(t, rows[0][1]), number(t, rows[0][2])
		switch {
		case count != distinct:
			t.Fatalf("%s: %d rows for %d messages: some are there twice", d.id, count, distinct)
		case distinct < d.count():
			return fmt.Errorf("%d of %d acknowledged messages are there", distinct, d.count())
		case highest+1 != distinct:
			return fmt.Errorf("messages up to %d, but only %d of them", highest, distinct)
		case highest >= d.count()+window:
			t.Fatalf("%s: message %d was never sent", d.id, highest)
		}
		return nil
	})
}

// windowsDiffer counts the windows of a length in seconds that do not equal what SQL computes from history, or are missing on
// either side.
func windowsDiffer(seconds string) string { return windowsDifferBefore(seconds, "") }

// windowsDifferBefore is windowsDiffer up to a time at which a window begins; "" is no such time.
func windowsDifferBefore(seconds, end string) string {
	before := func(column string) string {
		if end == "" {
			return ""
		}
		return " AND " + column + " < TIMESTAMP '" + end + "'"
	}
	return `SELECT count(*) FROM (
	SELECT device_id, channel_key, epoch_ns(window_start) AS w, "count" AS n, "min" AS lo, "max" AS hi, "sum" AS total, "first" AS f, "last" AS l
	FROM aggregates WHERE window_seconds = ` + seconds + before("window_start") + `) a FULL JOIN (
	SELECT device_id, channel_key, epoch_ns(event_time) - epoch_ns(event_time) % ` + seconds + `000000000 AS w,
		count(*) AS n, min(value) AS lo, max(value) AS hi, sum(value) AS total, arg_min(value, event_time) AS f, arg_max(value, event_time) AS l
	FROM device_messages WHERE value IS NOT NULL` + before("event_time") + ` GROUP BY ALL) h
	USING (device_id, channel_key, w)
	WHERE coalesce(a.n, 0) <> coalesce(h.n, 0) OR a.lo <> h.lo OR a.hi <> h.hi OR a.f <> h.f OR a.l <> h.l OR abs(a.total - h.total) > 1e-6 * (1 + abs(h.total))`
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
