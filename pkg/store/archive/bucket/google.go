package bucket

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"
)

// openGoogle takes the parameters anonymous (true: no credentials) and endpoint (of something that speaks the same protocol).
func openGoogle(ctx context.Context, cfg Config, u *url.URL) (*cloud, error) {
	q := u.Query()
	if err := unknown(q, "anonymous", "endpoint"); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport
	if cfg.TLS != nil {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true}
	}
	client := gcp.NewAnonymousHTTPClient(transport)
	if q.Get("anonymous") != "true" {
		credentials, err := googleCredentials(ctx, cfg.SecretKey)
		if err != nil {
			return nil, err
		}
		if client, err = gcp.NewHTTPClient(transport, gcp.CredentialsTokenSource(credentials)); err != nil {
			return nil, err
		}
	}
	options := &gcsblob.Options{}
	if endpoint := q.Get("endpoint"); endpoint != "" {
		options.ClientOptions = []option.ClientOption{option.WithEndpoint(endpoint)}
	}
	b, err := gcsblob.OpenBucket(ctx, client, u.Host, options)
	if err != nil {
		return nil, err
	}
	var own *storage.Client
	if b.As(&own) {
		own.SetRetry(storage.WithPolicy(storage.RetryNever)) // the archive tries again, and says so
	}
	return inCloud(b, prefixOf(u)), nil
}

// googleCredentials are a service account's, or the environment's.
func googleCredentials(ctx context.Context, account string) (*google.Credentials, error) {
	if account == "" {
		credentials, err := gcp.DefaultCredentials(ctx)
		if err != nil {
			return nil, fmt.Errorf("there is no secret_key, and the environment has no credentials: %w", err)
		}
		return credentials, nil
	}
	credentials, err := google.CredentialsFromJSONWithType(ctx, []byte(account), google.ServiceAccount, storage.ScopeReadWrite)
	if err != nil {
		return nil, fmt.Errorf("secret_key: want the JSON of a service account: %w", err)
	}
	return credentials, nil
}
