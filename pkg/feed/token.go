package feed

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
)

// ErrToken is returned by Subscribe for text that is no token of a log with these partitions.
var ErrToken = errors.New("not a resume token of this log")

const (
	tokenVersion  = 1
	tokenBytesMax = 64 << 10 // 1024 partitions of each stream take less
)

// vector is how far a reader has come in each partition, by stream and then number.
type vector []bus.Position

// A token is a vector in base64url (RFC 4648, without padding), and behind a dot what differs from it: partition, sequence
// and index in base 36. So the vector is written once for a batch, and each of its records adds a few bytes.
//
// The bytes: the version, the number of streams and of partitions, and of each position its sequence and index, all as
// unsigned varints.
func (v vector) text(streams int) string {
	b := make([]byte, 0, 8+4*len(v))
	b = append(b, tokenVersion)
	b = binary.AppendUvarint(b, uint64(streams))        //nolint:gosec // a few
	b = binary.AppendUvarint(b, uint64(len(v)/streams)) //nolint:gosec // not negative
	for _, p := range v {
		b = binary.AppendUvarint(b, p.Seq)
		b = binary.AppendUvarint(b, uint64(p.Index))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// appendStep appends what makes a token of base the one behind position at of partition k.
func appendStep(dst []byte, k int, at bus.Position) []byte {
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(k), 36)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, at.Seq, 36)
	dst = append(dst, '.')
	return strconv.AppendUint(dst, uint64(at.Index), 36)
}

// TokenAt returns the token of a place: that of a share, in the order of Topics, and beside it wherever the hub is now. It is "" until
// the hub is ready. Somebody who wants that share alone goes on from there with it.
func (h *Hub) TokenAt(share int, at []bus.Position) string {
	select {
	case <-h.ready:
	default:
		return ""
	}
	h.mu.Lock()
	v := slices.Clone(h.at)
	h.mu.Unlock()
	for i, p := range at {
		v[i*h.each+share] = p
	}
	return v.text(len(Streams()))
}

// Place returns the place of a share that a token names, in the order of Topics. An error wraps ErrToken.
func (h *Hub) Place(token string, share int) ([]bus.Position, error) {
	v, err := parseToken(token, len(Streams()), h.each)
	if err != nil {
		return nil, err
	}
	at := make([]bus.Position, len(Streams()))
	for i := range at {
		at[i] = v[i*h.each+share]
	}
	return at, nil
}

// parseToken reads a token of a log with so many streams and partitions.
func parseToken(token string, streams, partitions int) (vector, error) {
	if len(token) > tokenBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrToken, len(token), tokenBytesMax)
	}
	base, step, stepped := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(base)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64url", ErrToken)
	}
	v, err := parseVector(b, streams, partitions)
	if err != nil || !stepped {
		return v, err
	}
	parts := strings.Split(step, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: %d parts behind the vector, want 3", ErrToken, len(parts))
	}
	k, errK := strconv.ParseUint(parts[0], 36, 31)
	seq, errSeq := strconv.ParseUint(parts[1], 36, 64)
	index, errIndex := strconv.ParseUint(parts[2], 36, 32)
	if errK != nil || errSeq != nil || errIndex != nil || k >= uint64(len(v)) {
		return nil, fmt.Errorf("%w: its last step", ErrToken)
	}
	v[k] = bus.Position{Seq: seq, Index: uint32(index)}
	return v, nil
}

func parseVector(b []byte, streams, partitions int) (vector, error) {
	if len(b) == 0 || b[0] != tokenVersion {
		return nil, fmt.Errorf("%w: unknown version", ErrToken)
	}
	b = b[1:]
	fault := false
	next := func() uint64 {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			fault = true
			return 0
		}
		b = b[size:]
		return n
	}
	given, each := next(), next()
	if fault || given == 0 || given > uint64(streams) || each != uint64(partitions) { //nolint:gosec // not negative
		return nil, fmt.Errorf("%w: of %d streams in %d partitions, want %d in %d", ErrToken, given, each, streams, partitions)
	}
	v := make(vector, streams*partitions) // of a stream that the token does not know yet, from the earliest record on
	for i := range int(given * each) {    //nolint:gosec // bounded above
		seq, index := next(), next()
		if index > 1<<32-1 {
			fault = true
		}
		v[i] = bus.Position{Seq: seq, Index: uint32(index)} //nolint:gosec // checked
	}
	if fault || len(b) > 0 {
		return nil, fmt.Errorf("%w: cut off", ErrToken)
	}
	return v, nil
}
