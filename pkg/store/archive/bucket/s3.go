package bucket

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob/s3blob"
)

// s3Bucket can end uploads that a crash has left.
type s3Bucket struct {
	cloud
	client       *s3.Client
	name, prefix string
}

// openS3 takes the parameters of gocloud.dev/aws (region, endpoint, profile, role, anonymous, request_checksum_calculation, …), and
// use_path_style, which is true where there is an endpoint, ssetype (AES256, aws:kms) and kmskeyid.
func openS3(ctx context.Context, cfg Config, u *url.URL) (*s3Bucket, error) {
	q := maps.Clone(u.Query())
	take := func(name, otherwise string) string {
		value := cmp.Or(q.Get(name), otherwise)
		q.Del(name)
		return value
	}
	endpoint := q.Get("endpoint")
	pathStyle, err := strconv.ParseBool(take("use_path_style", strconv.FormatBool(endpoint != "")))
	if err != nil {
		return nil, fmt.Errorf("use_path_style: %w", err)
	}
	options := s3blob.Options{EncryptionType: types.ServerSideEncryption(take("ssetype", "")), KMSEncryptionID: take("kmskeyid", "")}
	if endpoint != "" && q.Get("region") == "" {
		q.Set("region", "us-east-1") // it must be something, and most servers of that kind do not mind
	}
	awsConfig, err := gcaws.V2ConfigFromURLParams(ctx, q)
	if err != nil {
		return nil, err
	}
	if cfg.AccessKey != "" || cfg.SecretKey != "" {
		awsConfig.Credentials = credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, "")
	}
	awsConfig.Retryer = func() aws.Retryer { return aws.NopRetryer{} } // the archive tries again, and says so
	if cfg.TLS != nil {
		awsConfig.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig = cfg.TLS })
	}
	client := s3.NewFromConfig(awsConfig, func(o *s3.Options) {
		o.UsePathStyle = pathStyle
		o.DisableLogOutputChecksumValidationSkipped = true // of objects in several parts; TLS and Parquet have sums of their own
	})
	options.RequestChecksumCalculation = awsConfig.RequestChecksumCalculation
	b, err := s3blob.OpenBucket(ctx, client, u.Host, &options)
	if err != nil {
		return nil, err
	}
	return &s3Bucket{cloud: *inCloud(b, prefixOf(u)), client: client, name: u.Host, prefix: prefixOf(u)}, nil
}

// AbortUploads implements archive.Aborter.
func (b *s3Bucket) AbortUploads(ctx context.Context, prefix string, before time.Time) (ended int, err error) {
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{
		Bucket: aws.String(b.name), Prefix: aws.String(b.prefix + prefix),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return ended, known(err)
		}
		for _, u := range page.Uploads {
			if u.Initiated == nil || !u.Initiated.Before(before) {
				continue
			}
			_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
				Bucket: aws.String(b.name), Key: u.Key, UploadId: u.UploadId,
			})
			if err != nil {
				return ended, known(err)
			}
			ended++
		}
	}
	return ended, nil
}
