package memory_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/millrace/services/ingest/internal/memory"
)

func TestOneSenderLeavesMemoryForTheOthers(t *testing.T) {
	b := memory.New(900)
	held := int64(0)
	for b.Take("flood", 10) == nil {
		held += 10
	}
	if held != 600 {
		t.Errorf("one sender alone holds %d of 900, want two thirds", held)
	}
	if err := b.Take("flood", 10); !errors.Is(err, memory.ErrShare) {
		t.Errorf("%v, want that its share is used up", err)
	}
	for i := range 10 {
		if err := b.Take(fmt.Sprint("honest", i), 30); err != nil {
			t.Errorf("sender %d: %v", i, err)
		}
	}
	if err := b.Take("another", 10); !errors.Is(err, memory.ErrAll) {
		t.Errorf("%v, want that all is used up", err)
	}
	b.Give("flood", held)
	for i := range 10 {
		b.Give(fmt.Sprint("honest", i), 30)
	}
	if b.Taken() != 0 || b.Take("another", 900) != nil {
		t.Errorf("%d are taken after all was given back", b.Taken())
	}
}
