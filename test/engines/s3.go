package engines

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	versitygwVersion = "v1.8.0"
	s3Bucket         = "millrace"
	s3Region         = "us-east-1"
	s3AccessKey      = "millrace"
	s3SecretKey      = "millrace-secret"
)

// s3 is the Versity S3 Gateway over a directory.
func s3() engine {
	return engine{
		name: "s3", nodes: 1, ports: []string{"http"},
		needs: []tool{{command: "go"}},
		programs: func() recipe {
			return recipe{name: "versitygw", version: versitygwVersion, make: func(ctx context.Context, s *site, dir string) error {
				return goInstall(ctx, s, dir, "github.com/versity/versitygw/cmd/versitygw@"+versitygwVersion)
			}}
		},
		configure: func(_ context.Context, s *site) error {
			// A bucket is a directory.
			return errors.Join(
				os.MkdirAll(filepath.Join(s.node(1), "data", s3Bucket), 0o700), os.MkdirAll(filepath.Join(s.node(1), "meta"), 0o700),
			)
		},
		command: func(s *site, _ int) (command, error) {
			data := filepath.Join(s.node(1), "data")
			args := []string{"--port", s.addr(1, "http"), "--access", s3AccessKey, "--secret", s3SecretKey, "--region", s3Region, "-q", "posix"}
			// What it knows of an object lies in extended attributes; where the file system has none, in files beside.
			if unix.Setxattr(data, "user.millrace", []byte("1"), 0) != nil {
				args = append(args, "--sidecar", filepath.Join(s.node(1), "meta"))
			}
			return command{path: filepath.Join(s.Programs, "versitygw"), args: append(args, data)}, nil
		},
		healthy: func(ctx context.Context, s *site, _ int) error {
			// Any answer will do: without a signature it is a refusal.
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr(1, "http")+"/", nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				return err
			}
			return res.Body.Close()
		},
		settings: func(s *site) (map[string]string, error) {
			endpoint := "http://" + s.addr(1, "http")
			return map[string]string{
				"url":      "s3://" + s3Bucket + "?endpoint=" + endpoint + "&region=" + s3Region + "&use_path_style=true",
				"endpoint": endpoint, "bucket": s3Bucket, "region": s3Region,
				"access_key": s3AccessKey, "secret_key": s3SecretKey, "data": filepath.Join(s.node(1), "data"),
			}, nil
		},
	}
}
