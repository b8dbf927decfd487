package nats_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

func TestAFullDiskIsOverOnceThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16777216"); err != nil {
		t.Skipf("a small disk needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: filepath.Join(dir, "log"), Addr: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	address := server.Addr()
	conn, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log, err := nats.Open(t.Context(), nats.Config{Conn: conn, Partitions: 1, Synced: true, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}()
	id := bus.PartitionID{Topic: bus.Ingested}
	record := func(b byte) []bus.Record { // that does not get smaller by compression
		value := make([]byte, 200_000)
		_, _ = rand.Read(value) // it never fails
		value[0] = b
		return []bus.Record{{Value: value}}
	}
	if err := log.Append(t.Context(), id, record('a')); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v, want no space left", err)
	}
	full, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	err = log.Append(full, id, record('b'))
	cancel()
	if err == nil {
		t.Fatal("a record was appended to a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for log.Append(again, id, record('c')) != nil {
		if again.Err() != nil {
			t.Fatal("there is room again, and nothing can be appended")
		}
	}
	if now := server.Addr(); now != address {
		t.Errorf("it listens at %s, and did at %s", now, address)
	}
	p, err := log.Partition(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var seen []byte
	for batch, err := range p.After(again, bus.Start{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Records {
			seen = append(seen, r.Value[0])
		}
		if seen[len(seen)-1] == 'c' {
			break
		}
	}
	if seen[0] != 'a' {
		t.Errorf("read %q, want what was acknowledged before at its beginning", seen)
	}
}
