package access_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/millrace/millrace/pkg/access"
)

func TestANameThatIsNotOursIsNotAnswered(t *testing.T) {
	h := access.OwnNames([]string{"Millrace.example.com"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	for host, want := range map[string]int{
		"127.0.0.1:8080": http.StatusNoContent, "127.0.0.1": http.StatusNoContent, "[::1]:8080": http.StatusNoContent, "[::1]": http.StatusNoContent,
		"localhost:8080": http.StatusNoContent, "LOCALHOST": http.StatusNoContent, "localhost.": http.StatusNoContent, "a.localhost:1": http.StatusNoContent,
		"10.0.0.7:8080": http.StatusNoContent, "": http.StatusNoContent, "millrace.example.com:8080": http.StatusNoContent,
		"evil.example:8080": http.StatusMisdirectedRequest, "evil.example": http.StatusMisdirectedRequest,
		"127.0.0.1.evil.example": http.StatusMisdirectedRequest, "localhost.evil.example:8080": http.StatusMisdirectedRequest,
		"notlocalhost": http.StatusMisdirectedRequest, "evil.millrace.example.com": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestAListenerThatLeavesLoopbackNeedsKeysAndTLS(t *testing.T) {
	for _, c := range []struct {
		name                string
		addr                string
		tls, keys, insecure bool
		ok                  bool
	}{
		{"loopback", "127.0.0.1:80", false, false, false, true},
		{"all of 127", "127.9.9.9:80", false, false, false, true},
		{"loopback of IPv6", "[::1]:80", false, false, false, true},
		{"localhost", "localhost:80", false, false, false, true},
		{"no listener", "", false, false, false, true},
		{"every address", ":80", false, false, false, false},
		{"every address of IPv4", "0.0.0.0:80", true, false, false, false},
		{"every address of IPv6", "[::]:80", false, true, false, false},
		{"a name", "millrace.example.com:80", false, true, false, false},
		{"no port", "127.0.0.1", false, false, false, false},
		{"keys and TLS", ":80", true, true, false, true},
		{"insecure", ":80", false, false, true, true},
	} {
		err := access.CheckListener(access.Listener{Key: "http.addr", Addr: c.addr, TLS: c.tls}, c.keys, c.insecure)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want it to pass: %t", c.name, err, c.ok)
		}
	}
}
