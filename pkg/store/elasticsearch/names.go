package elasticsearch

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// idBytesMax is the longest _id that Elasticsearch takes.
const idBytesMax = 512

// How far a row's event may lie from its arrival before its index is coarser. Devices whose clocks jump would otherwise make
// an index, which costs the cluster memory for ever, of each day since 2001: this way it is a day's index for the last month
// and tomorrow, a month's for the last year, and a year's beyond.
const (
	dailyBack   = 31 * 24 * time.Hour
	dailyAhead  = 24 * time.Hour
	monthlyBack = 366 * 24 * time.Hour
)

// appendDay appends the suffix of the index that a row belongs to. It follows from the row alone, so that a repetition finds
// the row in the same index. The suffix is the last day that the index may hold, so that an index past its time holds nothing
// younger.
func appendDay(dst []byte, event, arrival telemetry.Time) []byte {
	t := event.Std()
	switch late := arrival.Sub(event); {
	case late <= dailyBack && late >= -dailyAhead:
	case late <= monthlyBack && late >= -monthlyBack:
		t = time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC)
	default:
		t = time.Date(t.Year(), 12, 31, 0, 0, 0, 0, time.UTC)
	}
	return t.AppendFormat(dst, dayForm)
}

const dayForm = "2006.01.02"

// dayOf reads the suffix of an index.
func dayOf(index string) (day time.Time, ok bool) {
	if len(index) < len(dayForm) {
		return day, false
	}
	day, err := time.Parse(dayForm, index[len(index)-len(dayForm):])
	return day, err == nil
}

// appendOrigin appends the _id of a row that stems from one record, such as 3.81.5.
func appendOrigin(dst []byte, o bus.Origin) []byte {
	dst = strconv.AppendInt(dst, int64(o.Partition), 10)
	dst = strconv.AppendUint(append(dst, '.'), o.Seq, 10)
	return strconv.AppendUint(append(dst, '.'), uint64(o.Index), 10)
}

// keyID returns the _id of a row that has a key: its parts between slashes, or a hash behind their beginning where that is too
// long. Slashes within parts but the last are escaped, so that two keys never share an id.
func keyID(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('/')
		}
		if i < len(parts)-1 && strings.ContainsAny(p, "/%") {
			p = strings.ReplaceAll(strings.ReplaceAll(p, "%", "%25"), "/", "%2F")
		}
		b.WriteString(strings.ToValidUTF8(p, "\uFFFD"))
	}
	id := b.String()
	if len(id) > 0 && len(id) <= idBytesMax {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return strings.ToValidUTF8(id[:min(len(id), idBytesMax/2)], "") + "#" + hex.EncodeToString(sum[:])
}
