package access

import (
	"fmt"
	"net"
)

// Loopback reports whether addr (host:port) can be reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Listener is what is to be known of a listener before it may open.
type Listener struct {
	Key  string // its configuration key, such as "ingest.mqtt.addr"
	Addr string // host:port; "" for one that is not opened
	TLS  bool
}

// CheckListener returns an error for a listener that leaves loopback without keys or without TLS, unless insecure.
func CheckListener(l Listener, keys, insecure bool) error {
	if l.Addr == "" || insecure || Loopback(l.Addr) {
		return nil
	}
	if !keys {
		return fmt.Errorf("%s: %s leaves loopback and no access file is configured: set access.file and create keys with `millrace token create`, or say --insecure", l.Key, l.Addr)
	}
	if !l.TLS {
		return fmt.Errorf("%s: %s leaves loopback without TLS: set its certificate and key, or say --insecure", l.Key, l.Addr)
	}
	return nil
}
