package access

import "strings"

// Bearer returns the secret in an Authorization header of HTTP (RFC 6750, section 2.1), "" where it holds none.
func Bearer(header string) string {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}
