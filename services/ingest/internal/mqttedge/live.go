package mqttedge

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest/internal/permit"
)

const (
	livePrefix  = "live/"
	missedTopic = "live/missed" // where a subscriber whose filter takes it in is told what it missed
	noChannel   = "-"           // the channel's level of events that have none
)

// subscribeWait is how long a SUBSCRIBE waits for the feed: less than a CONNECT may take, which waits for this connection's end
// where it takes its session over.
const subscribeWait = 2 * time.Second

var errNotReady = errors.New("the live feed is not ready")

// Feed is what the edge needs of feed.Hub.
type Feed interface {
	Subscribe(ctx context.Context, filter feed.Filter, after string) (*feed.Subscription, error)
}

// outgoing is what a session sends. While it is attached conn.mu guards it.
type outgoing struct {
	subs      []*subscription
	inflight  []sent // QoS 1, not acknowledged, in the order of sending
	lastID    uint16
	window    int // of inflight
	packetMax int
}

// sent is a message that is not acknowledged. It is sent again when the session is taken up by a new connection.
type sent struct {
	id      uint16
	topic   string
	payload []byte
	again   bool // not yet sent on this connection
}

// subscription is one filter of a session.
type subscription struct {
	filter string
	qos    byte
	after  string // token of the last event that was taken from the feed; conn.mu
	missed uint64 // not yet told; of the pump alone
	over   bool   // conn.mu
	cancel context.CancelFunc
}

// feedFilter turns a topic filter into what the feed can sift by; the rest is left to mqtt.Match. The reason is that of SUBACK
// where the filter is not for this sender.
func feedFilter(filter string, s *permit.Sender) (feed.Filter, mqtt.Reason) {
	var f feed.Filter
	if _, _, shared := mqtt.SplitShared(filter); shared {
		return f, mqtt.ReasonSharedNotSupported
	}
	if err := mqtt.ValidFilter(filter); err != nil {
		return f, mqtt.ReasonTopicFilterInvalid
	}
	rest, ok := strings.CutPrefix(filter, livePrefix)
	if !ok {
		return f, mqtt.ReasonTopicFilterInvalid
	}
	level := strings.SplitN(rest, "/", 3)
	if stream := level[0]; stream != "+" && stream != "#" && filter != missedTopic {
		if !slices.Contains(feed.Streams(), stream) {
			return f, mqtt.ReasonTopicFilterInvalid
		}
		f.Streams = []string{stream}
	}
	device := ""
	if len(level) > 1 && level[1] != "+" && level[1] != "#" {
		device = level[1]
	}
	if filter != missedTopic && !s.MayRead(device) {
		return f, mqtt.ReasonNotAuthorized
	}
	if !strings.ContainsAny(device, "*?") { // these mean something to the feed
		f.Device = device
	}
	if len(level) > 2 && level[2] != noChannel && !strings.ContainsAny(level[2], "+#*?%") {
		f.Channel = level[2]
	}
	return f, mqtt.ReasonSuccess
}

// liveTopic returns the topic of an event. A channel's name may have several levels; what no topic may hold is percent-encoded.
func liveTopic(e *feed.Event) string {
	channel := e.Channel
	switch {
	case channel == "":
		channel = noChannel
	case channel == noChannel:
		channel = "%2D"
	case strings.ContainsAny(channel, "+#%"):
		channel = strings.NewReplacer("+", "%2B", "#", "%23", "%", "%25").Replace(channel)
	}
	return livePrefix + e.Stream + "/" + e.Device + "/" + channel
}

func (c *conn) takeSubscribe(life context.Context, p mqtt.Packet) error {
	s, err := mqtt.ParseSubscribe(p.Body, c.version)
	if err != nil {
		return err
	}
	if s.Properties.Has(mqtt.PropSubscriptionID) {
		return &mqtt.Error{Packet: p.Type, Code: mqtt.ReasonSubscriptionIDsNotSupported, Detail: "subscription identifiers are not supported"}
	}
	answer := mqtt.Suback{Type: mqtt.TypeSuback, PacketID: s.PacketID}
	for i := range s.Subscriptions {
		reason := c.subscribe(life, &s.Subscriptions[i])
		if reason.Failed() {
			c.edge.metrics.unfollowed.Inc()
		}
		answer.Reasons = append(answer.Reasons, reason)
	}
	return c.answer(&answer)
}

// answer sends a SUBACK or UNSUBACK.
func (c *conn) answer(a *mqtt.Suback) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, err := mqtt.AppendSuback(c.out, c.version, a)
	if err != nil {
		return err
	}
	c.out = out
	c.flushLocked()
	return nil
}

// subscribe returns the QoS that is granted, or why not. The same filter again replaces its subscription.
func (c *conn) subscribe(life context.Context, want *mqtt.Subscription) mqtt.Reason {
	filter, reason := feedFilter(want.Filter, c.sender.Load())
	if reason.Failed() {
		return reason
	}
	if c.edge.feed == nil {
		return mqtt.ReasonImplementationSpecific
	}
	c.drop(want.Filter)
	sub := &subscription{filter: want.Filter, qos: min(want.QoS, 1)}
	c.mu.Lock()
	full := len(c.session.outgoing.subs) >= c.edge.cfg.SubscriptionsMax
	c.mu.Unlock()
	if full {
		return mqtt.ReasonQuotaExceeded
	}
	if err := c.follow(life, sub, filter); err != nil {
		c.edge.log.Warn("a subscription is refused", "client_id", c.clientID, "filter", want.Filter, "error", err)
		if errors.Is(err, errNotReady) {
			return mqtt.ReasonUnspecified
		}
		return mqtt.ReasonQuotaExceeded
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.outgoing.subs = append(c.session.outgoing.subs, sub)
	return mqtt.Reason(sub.qos)
}

// drop ends the subscription with this filter; false when there is none.
func (c *conn) drop(filter string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.session.outgoing
	i := slices.IndexFunc(o.subs, func(s *subscription) bool { return s.filter == filter })
	if i < 0 {
		return false
	}
	o.subs[i].over = true
	o.subs[i].cancel()
	o.subs = slices.Delete(o.subs, i, i+1)
	c.changed.Broadcast()
	return true
}

func (c *conn) takeUnsubscribe(p mqtt.Packet) error {
	u, err := mqtt.ParseUnsubscribe(p.Body, c.version)
	if err != nil {
		return err
	}
	answer := mqtt.Suback{Type: mqtt.TypeUnsuback, PacketID: u.PacketID}
	for _, filter := range u.Filters {
		reason := mqtt.ReasonSuccess
		if !c.drop(filter) {
			reason = mqtt.ReasonNoSubscriptionExisted
		}
		answer.Reasons = append(answer.Reasons, reason)
	}
	return c.answer(&answer)
}

// resume goes on where the session's last connection ended: it sends again what was not acknowledged, and follows the
// feed from the last event that was taken from it.
func (c *conn) resume(life context.Context) {
	c.mu.Lock()
	o := &c.session.outgoing
	for i := range o.inflight {
		o.inflight[i].again = true
	}
	c.sendAgainLocked()
	subs := slices.Clone(o.subs)
	c.mu.Unlock()
	for _, sub := range subs {
		filter, reason := feedFilter(sub.filter, c.sender.Load())
		err := error(nil)
		if !reason.Failed() && c.edge.feed != nil {
			if err = c.follow(life, sub, filter); err == nil {
				continue
			}
		}
		c.edge.log.Warn("a session's subscription is lost", "client_id", c.clientID, "filter", sub.filter, "error", err)
		sub.cancel = func() {}
		c.drop(sub.filter)
	}
}

// sendAgainLocked sends what the window has room for.
func (c *conn) sendAgainLocked() {
	o := &c.session.outgoing
	for i := range o.inflight[:min(len(o.inflight), o.window)] {
		s := &o.inflight[i]
		if !s.again {
			continue
		}
		s.again = false
		m := mqtt.Publish{Dup: true, QoS: 1, PacketID: s.id, Topic: []byte(s.topic), Payload: s.payload}
		if out, err := mqtt.AppendPublish(c.out, c.version, &m); err == nil {
			c.out = out
		}
	}
	c.flushLocked()
}

// follow starts the goroutine of a subscription; live/missed has none, since others send there.
func (c *conn) follow(life context.Context, sub *subscription, filter feed.Filter) error {
	ctx, cancel := context.WithCancel(life)
	if sub.filter == missedTopic {
		sub.cancel = cancel
		return nil
	}
	filter.Tenant = c.edge.cfg.Tenant
	// The feed waits for the log; the connection, which reads nothing meanwhile, must not.
	late := time.AfterFunc(subscribeWait, cancel)
	events, err := c.edge.feed.Subscribe(ctx, filter, sub.after)
	if errors.Is(err, feed.ErrToken) { // of another log
		sub.missed++
		events, err = c.edge.feed.Subscribe(ctx, filter, "")
	}
	if !late.Stop() {
		if err == nil {
			events.Close()
		}
		err = errNotReady
	}
	if err != nil {
		cancel()
		return err
	}
	sub.cancel = cancel
	if sub.after == "" { // so that a session that is taken up before the first event misses nothing
		sub.after = events.Token()
	}
	c.pumps.Go(func() {
		defer cancel()
		defer events.Close()
		switch err := c.pump(ctx, sub, events); {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, feed.ErrClosed):
			c.end(endShutdown()) // the feed goes with the process
		default:
			c.end(ending{why: "live feed ended: " + err.Error(), reason: mqtt.ReasonUnspecified, tell: true})
		}
	})
	return nil
}

// pump sends what the feed has, as quickly as the client takes it. One that is too slow loses the oldest, and is told.
func (c *conn) pump(ctx context.Context, sub *subscription, events *feed.Subscription) error {
	for {
		batch, missed, err := events.Next(ctx)
		if err != nil {
			return err
		}
		if sub.missed += missed; missed > 0 {
			c.edge.metrics.missed.Add(float64(missed))
			c.tellMissed(sub)
		}
		for i := range batch {
			topic := liveTopic(&batch[i])
			if mqtt.Match(sub.filter, topic) && !c.deliver(sub, topic, batch[i].Data) {
				return nil
			}
			c.mu.Lock()
			sub.after = batch[i].ID
			c.mu.Unlock()
		}
	}
}

// tellMissed sends how many events the subscription missed to live/missed, for filters that take it in. In MQTT 5 the
// next message says so as well.
func (c *conn) tellMissed(sub *subscription) {
	c.mu.Lock()
	told := slices.ContainsFunc(c.session.outgoing.subs, func(s *subscription) bool { return mqtt.Match(s.filter, missedTopic) })
	c.mu.Unlock()
	if !told {
		return
	}
	text := `{"missed":` + strconv.FormatUint(sub.missed, 10) + `,"filter":` + strconv.Quote(sub.filter) + `}`
	c.deliver(&subscription{filter: missedTopic}, missedTopic, []byte(text))
	if !c.version5() {
		sub.missed = 0
	}
}

// deliver sends one message, waiting for the client's window and for room to write; false when the subscription is over.
func (c *conn) deliver(sub *subscription, topic string, payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.session.outgoing
	for c.ending.Load() == nil && !sub.over && (len(c.out) > outBytesMax || sub.qos > 0 && len(o.inflight) >= o.window) {
		c.wait()
	}
	if c.ending.Load() != nil || sub.over {
		return false
	}
	m := mqtt.Publish{QoS: sub.qos, Topic: []byte(topic), Payload: payload}
	if sub.missed > 0 && c.version5() {
		m.Properties.User = m.Properties.User.With("missed", strconv.FormatUint(sub.missed, 10))
	}
	if sub.qos > 0 {
		m.PacketID = o.nextID()
	}
	at := len(c.out)
	out, err := mqtt.AppendPublish(c.out, c.version, &m)
	if err != nil || len(out)-at > o.packetMax { // what the client cannot take must not be sent (MQTT 5, 3.1.2.11.4)
		sub.missed++
		c.edge.metrics.missed.Inc()
		return true
	}
	c.out = out
	sub.missed = 0
	if sub.qos > 0 {
		o.inflight = append(o.inflight, sent{id: m.PacketID, topic: topic, payload: payload})
	}
	c.edge.metrics.live.Inc()
	c.flushLocked()
	return true
}

// nextID returns an identifier that is not in flight.
func (o *outgoing) nextID() uint16 {
	for {
		o.lastID++
		if o.lastID != 0 && !slices.ContainsFunc(o.inflight, func(s sent) bool { return s.id == o.lastID }) {
			return o.lastID
		}
	}
}

// takePuback takes a message out of flight, whatever the client thinks of it.
func (c *conn) takePuback(p mqtt.Packet) error {
	var a mqtt.Ack
	if err := mqtt.ParseAck(p.Type, p.Body, c.version, &a); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.session.outgoing
	i := slices.IndexFunc(o.inflight, func(s sent) bool { return s.id == a.PacketID })
	if i < 0 {
		return nil // of an earlier connection, whose session is gone
	}
	o.inflight = slices.Delete(o.inflight, i, i+1)
	c.sendAgainLocked()
	if c.waiting > 0 {
		c.changed.Broadcast()
	}
	return nil
}
