package access

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// OwnNames lets requests through to next whose header Host is an address, localhost or one of names (without a port, in any
// case of letters); any other is answered 421. It is for listeners on loopback that ask nobody for a key: the page of another
// site, which a browser on this machine shows, may let its own name lead to 127.0.0.1 (DNS rebinding), and is then of the same
// origin as we are. Its name in Host is all that gives it away.
func OwnNames(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ownName(r.Host, names) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusMisdirectedRequest)
		_, _ = w.Write([]byte(`{"error":"this listener asks nobody for a key, so it answers only as localhost and by its address: ` +
			`name the host in http.hosts, or set access.required"}` + "\n"))
	})
}

func ownName(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil {
		return true
	}
	return slices.ContainsFunc(names, func(own string) bool { return strings.EqualFold(own, host) })
}
