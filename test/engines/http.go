package engines

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// answerBytesMax is more than any answer has that is read here.
const answerBytesMax = 1 << 20

// A web is how an engine is asked over HTTP that wants TLS and a name.
type web struct {
	ca, user, password string
}

// getOK asks for url and wants any 2xx.
func getOK(ctx context.Context, url string, w *web) error {
	_, err := w.ask(ctx, http.MethodGet, url, "")
	return err
}

// ask sends body, as JSON, and gives the answer. A nil web asks in plain text, as nobody.
func (w *web) ask(ctx context.Context, method, url, body string) (answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewBufferString(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if w != nil {
		roots, err := os.ReadFile(w.ca)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots)
		r.SetBasicAuth(w.user, w.password)
	}
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if answer, err = io.ReadAll(io.LimitReader(res.Body, answerBytesMax)); err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return answer, fmt.Errorf("%s %s: %s: %.300s", method, url, res.Status, answer)
	}
	return answer, nil
}
