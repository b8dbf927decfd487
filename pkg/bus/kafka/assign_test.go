package kafka

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDeal(t *testing.T) {
	for _, c := range []struct {
		name    string
		shares  int
		members []claimant
		want    string
	}{
		{"one member gets all", 3, []claimant{{member: "a"}}, "map[a:[0 1 2]]"},
		{"new members share evenly", 5, []claimant{{member: "a"}, {member: "b"}}, "map[a:[0 1 2] b:[3 4]]"},
		{"what is to move is nobody's at first", 4, []claimant{{"a", 1, []int{0, 1, 2, 3}}, {member: "b"}}, "map[a:[0 1] b:[]]"},
		{"then it is dealt out", 4, []claimant{{"a", 2, []int{0, 1}}, {"b", 2, nil}}, "map[a:[0 1] b:[2 3]]"},
		{"the shares of one that left are dealt out, the others stay", 6, []claimant{{"b", 5, []int{2, 3}}, {"c", 5, []int{4, 5}}}, "map[b:[0 2 3] c:[1 4 5]]"},
		{"there are more members than shares", 2, []claimant{{"a", 1, []int{0}}, {"b", 1, []int{1}}, {member: "c"}}, "map[a:[0] b:[1] c:[]]"},
		{"who owns more keeps more", 3, []claimant{{member: "a"}, {"b", 1, []int{1, 2}}}, "map[a:[0] b:[1 2]]"},
		{"of two that claim a share the later one has it", 2, []claimant{{"a", 1, []int{0, 1}}, {"b", 2, []int{1}}}, "map[a:[0] b:[1]]"},
		{"a share that there is not is ignored", 1, []claimant{{"a", 1, []int{7}}}, "map[a:[0]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := deal(c.shares, c.members)
			if s := fmt.Sprint(got); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
		})
	}
}

// Whoever comes and goes, no share ever has two owners, and after two deals without change all are dealt out evenly.
func TestDealsSettleAndNeverGiveAShareTwice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		shares := 1 + random.IntN(20)
		owned := map[string][]int{"m0": nil}
		for generation := range int32(30) {
			if random.IntN(3) == 0 {
				owned[fmt.Sprintf("m%d", random.IntN(8))] = nil // a new one, or one that was away
			}
			if len(owned) > 1 && random.IntN(4) == 0 {
				delete(owned, slices.Sorted(maps.Keys(owned))[random.IntN(len(owned))])
			}
			step(t, shares, generation, owned)
		}
		for generation := range int32(2) {
			step(t, shares, 100+generation, owned)
		}
		total := 0
		for member, part := range owned {
			total += len(part)
			if least := shares / len(owned); len(part) < least || len(part) > least+1 {
				t.Errorf("%s has %d of %d with %d members", member, len(part), shares, len(owned))
			}
		}
		if total != shares {
			t.Errorf("%d of %d are dealt out", total, shares)
		}
	}
}

func step(t *testing.T, shares int, generation int32, owned map[string][]int) {
	t.Helper()
	var members []claimant
	before := map[int]string{}
	for member, part := range owned {
		members = append(members, claimant{member, generation, part})
		for _, share := range part {
			before[share] = member
		}
	}
	got := deal(shares, members)
	after := map[int]string{}
	for member, part := range got {
		for _, share := range part {
			if other, twice := after[share]; twice {
				t.Fatalf("share %d went to %s and %s", share, other, member)
			}
			if owner, ok := before[share]; ok && owner != member {
				t.Fatalf("share %d went to %s while %s had it", share, member, owner)
			}
			after[share] = member
		}
		owned[member] = part
	}
}
