package engines

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// goInstall builds a program from the module proxy; the version is in module. It is built as tests are, so that what is compiled for
// them serves it too.
func goInstall(ctx context.Context, s *site, dir, module string) error {
	_, err := run(ctx, command{path: s.Tools["go"], args: []string{"install", module}, env: []string{"GOBIN=" + dir, "GOWORK=off", "GOFLAGS="}})
	return err
}

// mavenCopy brings the jars of a project into dir/lib.
func mavenCopy(ctx context.Context, s *site, dir string, pom []byte) error {
	if err := writeFile(filepath.Join(dir, "pom.xml"), pom); err != nil {
		return err
	}
	_, err := run(ctx, command{path: s.Tools["mvn"], args: []string{
		"-q", "-B", "-f", filepath.Join(dir, "pom.xml"), "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory=" + filepath.Join(dir, "lib"),
	}})
	return err
}

// npmFile brings one file out of a package: what the archive calls package/NAME becomes dir/NAME.
func npmFile(ctx context.Context, s *site, dir, pkg, name string) (err error) {
	if _, err := run(ctx, command{path: s.Tools["npm"], args: []string{
		"pack", "--silent", "--pack-destination", dir, pkg,
	}}); err != nil {
		return err
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return fmt.Errorf("npm pack %s: %d archives, want 1", pkg, len(packed))
	}
	f, err := os.Open(packed[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(packed[0])) }()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", pkg, err)
	}
	for files := tar.NewReader(unzipped); ; {
		h, err := files.Next()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", pkg, name, err)
		}
		if h.Name == "package/"+name {
			return copyTo(filepath.Join(dir, name), files)
		}
	}
}

// copyTo makes an executable file of what r gives.
func copyTo(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755) //nolint:gosec // a program, for anyone
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
