package elasticsearch

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config says where the cluster is. URL and Now must be set.
type Config struct {
	// URL of the cluster, http or https; several nodes are separated by commas, those after the first as URLs or host:port.
	URL string
	// User and Password, or else APIKey in its encoded form (what the create API key request calls "encoded").
	User, Password, APIKey string
	TLS                    *tls.Config // for https; nil means the machine's authorities
	// Prefix begins the names of all indices and templates; "" means "millrace".
	Prefix string
	// HistoryFor, LogsFor and DeadLettersFor are how long whole days are kept, by event time and time of receipt; 0 means for
	// ever. Where the server has index lifecycle management, Migrate makes a policy of it, else each process that has the
	// store open deletes indices that are past it, every hour.
	HistoryFor, LogsFor, DeadLettersFor time.Duration
	// Timeout bounds each call whose context has no deadline; 0 means 30 s.
	Timeout time.Duration
	// RequestBytes is the size at which a bulk request is sent; 0 means 2 MiB. One larger document goes alone. The server's
	// http.max_content_length (100 MB) is never reached; where a proxy allows less, requests are cut in halves.
	RequestBytes int
	// Requests is how many bulk requests one write has under way; 0 means 2.
	Requests int

	Log *slog.Logger // nil logs nothing
	Now func() time.Time
}

const (
	defaultPrefix       = "millrace"
	defaultTimeout      = 30 * time.Second
	defaultRequestBytes = 2 << 20
	defaultRequests     = 2
	upkeepEvery         = time.Hour
)

// prefixes are names that an index may have in front: lower case, no leading sign, no wildcards.
var prefixes = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if !prefixes.MatchString(c.Prefix) {
		return c, fmt.Errorf("prefix %q, want up to 64 lower-case letters, digits, dots, - and _", c.Prefix)
	}
	if c.Now == nil {
		return c, errors.New("no clock")
	}
	if c.APIKey != "" && c.User != "" {
		return c, errors.New("an API key beside a user, want one of the two")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.RequestBytes <= 0 {
		c.RequestBytes = defaultRequestBytes
	}
	if c.Requests <= 0 {
		c.Requests = defaultRequests
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// addresses returns the URLs of the nodes without credentials, and those that the first URL has.
func (c Config) addresses() (nodes []string, user *url.Userinfo, err error) {
	scheme := ""
	for text := range strings.SplitSeq(c.URL, ",") {
		text = strings.TrimSpace(text)
		if scheme != "" && !strings.Contains(text, "://") {
			text = scheme + "://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, nil, errors.New("the URL is not of the form http://host:9200 or https://host:9200") // it may hold a password
		}
		scheme = u.Scheme
		if user == nil {
			user = u.User
		}
		u.User = nil
		nodes = append(nodes, u.String())
	}
	return nodes, user, nil
}
