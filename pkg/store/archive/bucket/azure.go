package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
)

// openAzure takes the parameters storage_account, domain and protocol, as azureblob.ServiceURLOptions says.
func openAzure(ctx context.Context, cfg Config, u *url.URL) (*cloud, error) {
	q := u.Query()
	if err := unknown(q, "storage_account", "domain", "protocol"); err != nil {
		return nil, err
	}
	service := azureblob.NewDefaultServiceURLOptions() // from the environment
	for name, field := range map[string]*string{
		"storage_account": &service.AccountName, "domain": &service.StorageDomain, "protocol": &service.Protocol,
	} {
		if value := q.Get(name); value != "" {
			*field = value
		}
	}
	if service.AccountName == "" {
		return nil, errors.New("storage_account: missing, want the parameter or the variable AZURE_STORAGE_ACCOUNT")
	}
	base, err := azureblob.NewServiceURL(service)
	if err != nil {
		return nil, err
	}
	where, err := url.Parse(string(base)) // with a token, where the environment has one
	if err != nil {
		return nil, err
	}
	client, err := azureClient(cfg, service.AccountName, where.JoinPath(u.Host).String(), service.SASToken != "")
	if err != nil {
		return nil, err
	}
	b, err := azureblob.OpenBucket(ctx, client, nil)
	if err != nil {
		return nil, err
	}
	return inCloud(b, prefixOf(u)), nil
}

func azureClient(cfg Config, account, where string, token bool) (*container.Client, error) {
	options := azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}} // the archive tries again, and says so
	if cfg.TLS != nil {
		options.Transport = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true}}
	}
	switch {
	case cfg.SecretKey != "":
		key, err := container.NewSharedKeyCredential(account, cfg.SecretKey)
		if err != nil {
			return nil, fmt.Errorf("secret_key: want the key of the storage account: %w", err)
		}
		return container.NewClientWithSharedKeyCredential(where, key, &container.ClientOptions{ClientOptions: options})
	case token:
		return container.NewClientWithNoCredential(where, &container.ClientOptions{ClientOptions: options})
	}
	identity, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options})
	if err != nil {
		return nil, fmt.Errorf("there is no secret_key, and the environment has no credentials: %w", err)
	}
	return container.NewClient(where, identity, &container.ClientOptions{ClientOptions: options})
}
