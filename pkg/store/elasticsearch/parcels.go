package elasticsearch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/millrace/millrace/pkg/telemetry"
)

// parcel is bytes that lie in documents of their own, since they may be many megabytes. It counts once a mark names it; a parcel
// that none names is what a crash left, and is swept away later (see sweep).
type parcel struct {
	ID     string `json:"parcel"`
	Pieces int    `json:"pieces"`
	Bytes  int    `json:"bytes"`
	CRC    uint32 `json:"crc"`
}

const pieceBytes = 2 << 20 // of a checkpoint in one document

// cutPieces divides bytes into pieces; no bytes are one piece.
func cutPieces(b []byte) [][]byte {
	pieces := [][]byte{b[:min(len(b), pieceBytes)]}
	for b = b[len(pieces[0]):]; len(b) > 0; b = b[len(pieces[len(pieces)-1]):] {
		pieces = append(pieces, b[:min(len(b), pieceBytes)])
	}
	return pieces
}

// newParcel names pieces that are about to be put down. owner and number are never used together a second time, except by a
// process whose clock and mark stand still; then create finds the documents there, and the write fails.
func newParcel(owner, what string, number int64, pieces [][]byte) *parcel {
	p := &parcel{ID: keyID(owner, what, strconv.FormatInt(number, 10)), Pieces: len(pieces)}
	for _, piece := range pieces {
		p.Bytes += len(piece)
		p.CRC = crc32.Update(p.CRC, crc32.IEEETable, piece)
	}
	return p
}

func pieceID(id string, piece int) string { return keyID(id, strconv.Itoa(piece)) }

// put puts the pieces of a parcel down.
func (db *DB) putPieces(b *bulk, p *parcel, pieces [][]byte) {
	index := db.name(indexParcels)
	for i, piece := range pieces {
		dst := b.act("create", index, pieceID(p.ID, i), nil, i)
		dst = addText(dst, "parcel", p.ID)
		dst = addWhole(dst, "written", int64(telemetry.At(db.cfg.Now())))
		dst = append(addName(dst, "bytes"), '"')
		dst = base64.StdEncoding.AppendEncode(dst, piece)
		b.end(closeDocument(append(dst, '"', ',')))
	}
}

// errGone says that a parcel is not there any more: a newer one has taken its place.
var errGone = errors.New("the parcel is gone")

// readPieces calls each with every piece of a parcel.
func (db *DB) readPieces(ctx context.Context, p *parcel, each func(piece []byte) error) error {
	var crc uint32
	for i := range p.Pieces {
		d, err := db.readOne(ctx, db.name(indexParcels), pieceID(p.ID, i))
		if err != nil {
			return fmt.Errorf("parcel %s: %w", p.ID, err)
		}
		if !d.Found {
			return fmt.Errorf("parcel %s: piece %d: %w", p.ID, i, errGone)
		}
		var s struct {
			Bytes []byte `json:"bytes"`
		}
		if err := json.Unmarshal(d.Source, &s); err != nil {
			return fmt.Errorf("parcel %s: %w", p.ID, err)
		}
		crc = crc32.Update(crc, crc32.IEEETable, s.Bytes)
		if err := each(s.Bytes); err != nil {
			return err
		}
	}
	if crc != p.CRC {
		return fmt.Errorf("parcel %s: the checksum is %08x, want %08x", p.ID, crc, p.CRC)
	}
	return nil
}

// dropParcels deletes parcels that no mark names any more. What cannot be deleted is swept away later.
func (db *DB) dropParcels(ctx context.Context, old []parcel) {
	if len(old) == 0 {
		return
	}
	b := db.newBulk(ctx)
	index := db.name(indexParcels)
	for _, p := range old {
		for i := range p.Pieces {
			b.end(b.act("delete", index, pieceID(p.ID, i), nil, i))
		}
	}
	if out := b.wait(); out.err != nil && !answered(out.err, 404) {
		db.cfg.Log.Debug("what is not needed any more was not deleted", "documents", out.failed, "error", out.err)
	}
}
