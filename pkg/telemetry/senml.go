package telemetry

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// senmlVersion is the newest version of SenML that is read (RFC 8428, section 4.4).
const senmlVersion = 10

// senmlRelative is the time below which a SenML time is relative to now (RFC 8428, section 4.5.3): 2^28 seconds.
const senmlRelative = (1 << 28) * 1_000_000_000

// senmlNameMax is the longest base name: a device, a separator and a channel.
const senmlNameMax = DeviceIDMax + 1 + ChannelKeyMax

// senmlBase is what the base fields of the records so far have set (RFC 8428, section 4.1).
type senmlBase struct {
	name       string
	unit       []byte // verbatim, with its quotes
	time       int64  // nanoseconds
	value, sum float64
	broken     error // a base field could not be read: what stands on it would be wrong
}

// The fields of one SenML record, in the order of senmlField's names.
const (
	senmlNone = iota
	senmlBaseName
	senmlBaseTime
	senmlBaseUnit
	senmlBaseValue
	senmlBaseSum
	senmlBaseVersion
	senmlName
	senmlUnit
	senmlValue
	senmlString
	senmlBool
	senmlData
	senmlSum
	senmlTime
	senmlUpdateTime
	senmlCount
)

func senmlField(key string) int {
	switch key {
	case "bn":
		return senmlBaseName
	case "bt":
		return senmlBaseTime
	case "bu":
		return senmlBaseUnit
	case "bv":
		return senmlBaseValue
	case "bs":
		return senmlBaseSum
	case "bver":
		return senmlBaseVersion
	case "n":
		return senmlName
	case "u":
		return senmlUnit
	case "v":
		return senmlValue
	case "vs":
		return senmlString
	case "vb":
		return senmlBool
	case "vd":
		return senmlData
	case "s":
		return senmlSum
	case "t":
		return senmlTime
	case "ut":
		return senmlUpdateTime
	}
	return senmlNone
}

// beginPack notes whether the array that begins at b[start] is a SenML pack: the content type says so, or its first record
// has a name or a base name, and no member that SenML does not know.
func (u *unit) beginPack(start int) {
	u.senBase = senmlBase{}
	u.inPack = u.senml
	at := u.scan.space(start + 1)
	if u.inPack || u.messageType != "" || at >= len(u.in.Body) || u.in.Body[at] != '{' {
		return
	}
	if _, ok := u.scan.object(at, 1); !ok {
		return
	}
	named := false
	for i := range u.scan.members {
		f := senmlField(u.scan.members[i].key)
		if f == senmlNone {
			return
		}
		named = named || f == senmlName || f == senmlBaseName
	}
	u.inPack = named
}

func takesSenML(u *unit) bool { return u.inPack }

// decodeSenML reads one record of a pack. The device is the topic's or path's, else the base name without its last
// separator; the channel is the rest of the resolved name. The value is the sum of base value and value; a record with a
// sum and no value is a channel of type sum. Unit, sum and update time go to Attributes, with what SenML does not know.
//
// Base fields are taken over even when the rest of the record is refused, so that the records behind it are read right.
func decodeSenML(u *unit) error {
	var f [senmlCount]*jsonMember
	for i := range u.scan.members {
		m := &u.scan.members[i]
		f[senmlField(m.key)] = m
	}
	if u.senBase.broken == nil {
		u.senBase.broken = u.senmlBases(&f)
	}
	if err := u.senBase.broken; err != nil {
		return err
	}
	for i := range u.scan.members {
		if key := u.scan.members[i].key; strings.HasSuffix(key, "_") { // section 4.4
			return fmt.Errorf("%s: a field that must be understood and is not", quoted(key))
		}
	}
	if f[senmlName] == nil && f[senmlValue] == nil && f[senmlString] == nil && f[senmlBool] == nil && f[senmlData] == nil &&
		f[senmlSum] == nil && f[senmlTime] == nil {
		return nil // base fields only
	}
	m := u.template
	m.Kind = KindChannel
	if err := u.senmlNames(&m, f[senmlName], f[senmlUnit]); err != nil {
		return err
	}
	if err := u.senmlTimes(&m, f[senmlTime]); err != nil {
		return err
	}
	if err := u.senmlValues(&m, &f); err != nil {
		return err
	}
	if err := u.senmlAttributes(&m, &f); err != nil {
		return err
	}
	u.emit(&m)
	return nil
}

func (u *unit) senmlBases(f *[senmlCount]*jsonMember) error {
	b := &u.senBase
	version, baseUnit := 0.0, ""
	for _, err := range [...]error{
		u.senmlText(f[senmlBaseName], &b.name),
		u.senmlText(f[senmlBaseUnit], &baseUnit),
		senmlNumber(f[senmlBaseValue], &b.value),
		senmlNumber(f[senmlBaseSum], &b.sum),
		senmlSeconds(f[senmlBaseTime], &b.time),
		senmlNumber(f[senmlBaseVersion], &version),
	} {
		if err != nil {
			return err
		}
	}
	if m := f[senmlBaseUnit]; m != nil {
		b.unit = m.raw
	}
	// Each record gets a copy of these.
	if n := len(b.name); n > senmlNameMax {
		return fmt.Errorf("bn: %d bytes, want at most %d", n, senmlNameMax)
	}
	if n := len(baseUnit); n > ChannelKeyMax {
		return fmt.Errorf("bu: %d bytes, want at most %d", n, ChannelKeyMax)
	}
	if version > senmlVersion {
		return fmt.Errorf("bver: %v, want at most %d", version, senmlVersion)
	}
	return nil
}

func (u *unit) senmlText(m *jsonMember, into *string) error {
	if m == nil {
		return nil
	}
	if m.kind != jsonString {
		return fmt.Errorf("%s: %s, want a string", m.key, m.kind)
	}
	*into = alias(u.stringBytes(m.jsonValue))
	return nil
}

func senmlNumber(m *jsonMember, into *float64) error {
	if m == nil {
		return nil
	}
	if m.kind != jsonNumber {
		return fmt.Errorf("%s: %s, want a number", m.key, m.kind)
	}
	v, err := strconv.ParseFloat(alias(m.raw), 64)
	if err != nil {
		return fmt.Errorf("%s: %s, want a number within the range of a double", m.key, quoted(string(m.raw)))
	}
	*into = v
	return nil
}

// senmlSeconds reads a time exactly: as a double the seconds of today are good to a quarter of a microsecond only.
func senmlSeconds(m *jsonMember, into *int64) error {
	if m == nil {
		return nil
	}
	if m.kind != jsonNumber {
		return fmt.Errorf("%s: %s, want a number", m.key, m.kind)
	}
	d, ok := parseDecimal(alias(m.raw))
	if !ok {
		return fmt.Errorf("%s: %s, want seconds", m.key, quoted(string(m.raw)))
	}
	*into = d.scaled(9)
	return nil
}

// senmlNames finds device and channel.
func (u *unit) senmlNames(m *Message, member, unit *jsonMember) error {
	name := ""
	if err := u.senmlText(member, &name); err != nil {
		return err
	}
	base := u.senBase.name
	if u.in.DeviceID == "" && base == "" {
		return errors.New("bn: missing, want a base name, since neither topic nor path names a device")
	}
	if u.in.DeviceID == "" {
		device, err := u.device(senmlDevice(base))
		if err != nil {
			return fmt.Errorf("bn: %w", err)
		}
		m.DeviceID = device
	}
	m.ChannelKey = u.senmlChannel(base, name)
	if m.ChannelKey == "" {
		// The whole name is the device's. The RFC's own example 5.1.3 tells three measurements apart by their units alone.
		if err := u.senmlText(unit, &m.ChannelKey); err != nil {
			return err
		}
		if m.ChannelKey == "" && u.senBase.unit != nil {
			m.ChannelKey = alias(u.stringBytes(jsonValue{raw: u.senBase.unit, escaped: true}))
		}
		if m.ChannelKey == "" {
			m.ChannelKey = "value"
		}
	}
	if err := validChannelKey(m.ChannelKey); err != nil {
		return fmt.Errorf("n: %w", err)
	}
	return nil
}

// senmlChannel returns what is left of the resolved name behind the device.
func (u *unit) senmlChannel(base, name string) string {
	device := u.in.DeviceID
	if device != "" && base == "" {
		base, name = name, ""
	}
	if rest, ok := strings.CutPrefix(base, device); ok && device != "" && (rest == "" || isSeparator(rest[0])) {
		a := &u.arena
		a.need(len(rest) + len(name))
		mark := len(a.chunk)
		a.chunk = append(append(a.chunk, rest...), name...)
		name = alias(a.since(mark))
	} else if name == "" && device != "" {
		name = base // a name that has nothing to do with the topic's device
	}
	return strings.TrimLeft(name, separators)
}

// separators may stand between the device's part of a name and the channel's.
const separators = ":/._-"

func isSeparator(c byte) bool { return strings.IndexByte(separators, c) >= 0 }

// senmlDevice returns a base name without its last separator.
func senmlDevice(base string) string {
	if isSeparator(base[len(base)-1]) {
		return base[:len(base)-1]
	}
	return base
}

func (u *unit) senmlTimes(m *Message, member *jsonMember) error {
	var t int64
	if err := senmlSeconds(member, &t); err != nil {
		return err
	}
	base := u.senBase.time
	if t > 0 && base > math.MaxInt64-t || t < 0 && base < math.MinInt64-t {
		return errors.New("t: beyond the years that can be told")
	}
	switch t += base; {
	case t == 0: // now
		u.noHash = true
	case t < senmlRelative:
		u.noHash = true
		if t < int64(timeMin) {
			return errors.New("t: beyond the years that can be told")
		}
		m.EventTime = known(m.IngestTime + Time(t))
	default:
		m.EventTime = min(Time(t), timeMax)
	}
	return nil
}

func (u *unit) senmlValues(m *Message, f *[senmlCount]*jsonMember) error {
	values := 0
	for _, v := range [...]*jsonMember{f[senmlValue], f[senmlString], f[senmlBool], f[senmlData]} {
		if v != nil {
			values++
		}
	}
	if values > 1 {
		return errors.New("more than one of v, vs, vb and vd, want one")
	}
	switch {
	case f[senmlValue] != nil:
		return u.senmlSum(m, f[senmlValue], u.senBase.value, typeNumber)
	case f[senmlString] != nil:
		m.ChannelType = typeText
		return u.senmlBytes(m, f[senmlString])
	case f[senmlData] != nil:
		m.ChannelType = "data"
		return u.senmlBytes(m, f[senmlData])
	case f[senmlBool] != nil:
		if k := f[senmlBool].kind; k != jsonTrue && k != jsonFalse {
			return fmt.Errorf("vb: %s, want a boolean", k)
		}
		u.setValue(m, f[senmlBool].jsonValue)
		return nil
	case f[senmlSum] != nil:
		return u.senmlSum(m, f[senmlSum], u.senBase.sum, "sum")
	}
	return errors.New("no value, want one of v, vs, vb, vd and s")
}

func (u *unit) senmlBytes(m *Message, v *jsonMember) error {
	if v.kind != jsonString {
		return fmt.Errorf("%s: %s, want a string", v.key, v.kind)
	}
	m.ChannelValue = u.stringBytes(v.jsonValue)
	return nil
}

// senmlSum sets the value to base + v; as the device wrote it where there is no base.
func (u *unit) senmlSum(m *Message, v *jsonMember, base float64, channelType string) error {
	var number float64
	raw, err := u.senmlAdd(v, base, &number)
	if err != nil {
		return err
	}
	m.ChannelType, m.ChannelValue, m.Value, m.HasValue = channelType, raw, number, true
	return nil
}

// senmlAdd returns base + v as a number and as text.
func (u *unit) senmlAdd(v *jsonMember, base float64, sum *float64) (text []byte, err error) {
	if err := senmlNumber(v, sum); err != nil {
		return nil, err
	}
	if base == 0 {
		return v.raw, nil
	}
	if *sum += base; math.IsInf(*sum, 0) {
		return nil, fmt.Errorf("%s: with its base beyond the range of a double", v.key)
	}
	a := &u.arena
	a.need(32)
	mark := len(a.chunk)
	a.chunk = strconv.AppendFloat(a.chunk, *sum, 'g', -1, 64)
	return a.since(mark), nil
}

// senmlAttributes gathers unit, sum (where there is a value as well), update time and what SenML does not know. Where a
// record has a member of its own with one of these names, SenML's goes by its label.
func (u *unit) senmlAttributes(m *Message, f *[senmlCount]*jsonMember) error {
	var own [3]struct {
		name, label string
		raw         []byte
	}
	own[0].name, own[0].label, own[0].raw = `"unit"`, `"u"`, u.senBase.unit
	own[1].name, own[1].label = `"sum"`, `"s"`
	own[2].name, own[2].label = `"update_time"`, `"ut"`
	if v := f[senmlUnit]; v != nil {
		var unit string
		if err := u.senmlText(v, &unit); err != nil {
			return err
		}
		own[0].raw = v.raw
	}
	if v := f[senmlSum]; v != nil && f[senmlValue] != nil {
		var sum float64
		raw, err := u.senmlAdd(v, u.senBase.sum, &sum)
		if err != nil {
			return err
		}
		own[1].raw = raw
	}
	if v := f[senmlUpdateTime]; v != nil {
		own[2].raw = v.raw
	}
	b := jsonObjectWriter{arena: &u.arena}
	b.begin(len(u.raw) + len(own[0].raw) + 96)
	for i := range u.scan.members {
		e := &u.scan.members[i]
		if senmlField(e.key) != senmlNone {
			continue
		}
		b.put(alias(e.rawKey), e.raw)
		for j := range own {
			if own[j].name == alias(e.rawKey) {
				own[j].name = own[j].label
			}
		}
	}
	for _, o := range own {
		if o.raw != nil {
			b.put(o.name, o.raw)
		}
	}
	m.Attributes = b.end()
	return nil
}
