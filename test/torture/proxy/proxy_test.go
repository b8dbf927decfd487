package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/test/torture/proxy"
)

// echo answers each line with the same line, and returns where.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func line(t *testing.T) (*proxy.Proxy, net.Conn, *bufio.Reader) {
	t.Helper()
	at := echo(t)
	p, err := proxy.Listen(t.Context(), func() string { return at })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return p, c, bufio.NewReader(c)
}

func say(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadString('\n'); err != nil || got != "hello\n" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestALineThatHangsGoesOn(t *testing.T) {
	p, c, r := line(t)
	say(t, c, r)
	p.Hang()
	if _, err := c.Write([]byte("late\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a line that hangs answered: %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.Resume()
	if got, err := r.ReadString('\n'); err != nil || got != "late\n" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestALineThatIsCutEnds(t *testing.T) {
	p, c, r := line(t)
	say(t, c, r)
	p.Cut()
	if _, err := r.ReadString('\n'); err == nil {
		t.Fatal("a line that was cut answered")
	}
	again, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	say(t, again, bufio.NewReader(again))
}

func TestASlowLineTakesItsTime(t *testing.T) {
	p, c, r := line(t)
	p.Slow(60) // bytes a second: six bytes, there and back
	begun := time.Now()
	say(t, c, r)
	if took := time.Since(begun); took < 150*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}
