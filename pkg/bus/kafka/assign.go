package kafka

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
)

// claimant is a member of a group and the shares whose owner it was, under which generation of the group, and is until it says
// otherwise.
type claimant struct {
	member     string
	generation int32
	shares     []int
}

// deal says which shares, of n, each member has from now on. They are spread evenly, to within one, and whoever owns some keeps as
// many of them as are its part. A share that is to go from one member to another is in nobody's part: its owner sees that it has lost
// it, ends what it does with it, and joins again without it; then it is dealt out. So a share has never two owners, and those
// that stay where they are are never interrupted.
func deal(n int, members []claimant) map[string][]int {
	owner := owners(n, members)
	owned := make(map[string]int, len(members))
	for _, m := range owner {
		owned[m]++
	}
	delete(owned, "")
	// Who owns most gets the larger parts, so that the fewest shares move.
	order := make([]string, 0, len(members))
	for _, m := range members {
		order = append(order, m.member)
	}
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(owned[b], owned[a]), cmp.Compare(a, b))
	})
	parts := make(map[string][]int, len(order))
	for i, m := range order {
		room := n / len(order)
		if i < n%len(order) {
			room++
		}
		parts[m] = make([]int, 0, room)
	}
	for share, m := range owner {
		if m != "" && len(parts[m]) < cap(parts[m]) {
			parts[m] = append(parts[m], share)
		}
	}
	for share, m := range owner {
		if m != "" {
			continue
		}
		// There may be no room: the parts of those that give shares away are full, and who gets them waits.
		for _, m := range order {
			if len(parts[m]) < cap(parts[m]) {
				parts[m] = append(parts[m], share)
				break
			}
		}
	}
	for _, part := range parts {
		slices.Sort(part)
	}
	return parts
}

// owners returns the owner of each share, "" where there is none. Of two that claim the same, the one of the later generation is:
// the other was away and does not know yet that it lost it.
func owners(n int, members []claimant) []string {
	owner, generation := make([]string, n), make([]int32, n)
	for _, m := range members {
		for _, share := range m.shares {
			if share >= 0 && share < n && (owner[share] == "" || m.generation > generation[share]) {
				owner[share], generation[share] = m.member, m.generation
			}
		}
	}
	return owner
}

// claimVersion begins what appendClaim writes.
const claimVersion = 1

var errClaim = errors.New("not what a member of this kind says of its shares")

// appendClaim appends the generation and the shares of c as a member tells them to the one that deals: the version, then unsigned
// varints, the shares with their number before them.
func appendClaim(dst []byte, c claimant) []byte {
	dst = append(dst, claimVersion)
	dst = binary.AppendUvarint(dst, uint64(uint32(c.generation))) //nolint:gosec // bits
	dst = binary.AppendUvarint(dst, uint64(len(c.shares)))
	for _, share := range c.shares {
		dst = binary.AppendUvarint(dst, uint64(share)) //nolint:gosec // not negative
	}
	return dst
}

func parseClaim(member string, b []byte) (claimant, error) {
	c := claimant{member: member}
	if len(b) == 0 || b[0] != claimVersion {
		return c, errClaim
	}
	b = b[1:]
	next := func() (uint64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<32-1 {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	generation, ok := next()
	count, ok2 := next()
	if !ok || !ok2 || count > uint64(len(b)) {
		return c, errClaim
	}
	c.generation = int32(uint32(generation)) //nolint:gosec // bits
	for range count {
		share, ok := next()
		if !ok || share > 1<<20 {
			return claimant{member: member}, errClaim
		}
		c.shares = append(c.shares, int(share))
	}
	return c, nil
}
