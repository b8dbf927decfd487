package engines

import (
	"archive/zip"
	"bytes"
	"context"
	_ "embed" // what starts a node
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed elasticsearch/pom.xml
var elasticPom []byte

//go:embed elasticsearch/Elastic.java
var elasticMain []byte

//go:embed elasticsearch/Extras.java
var elasticExtras []byte

const (
	elasticVersion  = "8.19.21"
	elasticUser     = "elastic"
	elasticPassword = "millrace-secret"
)

// elasticsearch is one node, open to all.
func elasticsearch() engine {
	e := elastic("elasticsearch", "open", nil)
	e.healthy = func(ctx context.Context, s *site, _ int) error {
		return getOK(ctx, "http://"+s.addr(1, "http")+"/_cluster/health?wait_for_status=yellow&timeout=5s", nil)
	}
	e.settings = func(s *site) (map[string]string, error) {
		return map[string]string{"url": "http://" + s.addr(1, "http")}, nil
	}
	return e
}

// elasticsearchSecure is one node with TLS, users and API keys.
func elasticsearchSecure() engine {
	// The absent SAML classes would be asked for by the verifier alone.
	e := elastic("elasticsearch-secure", "secure", []string{"-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"})
	e.healthy = func(ctx context.Context, s *site, _ int) error {
		// It serves once it can write its index of users.
		_, err := elasticWeb(s).ask(ctx, http.MethodPut, elasticURL(s)+"/_security/role/engines", "{}")
		return err
	}
	e.settle = elasticKey
	e.settings = func(s *site) (map[string]string, error) {
		key, err := os.ReadFile(elasticKeyFile(s))
		return map[string]string{
			"url": elasticURL(s), "ca": s.tls.ca(), "user": elasticUser, "password": elasticPassword, "api_key": string(key),
		}, err
	}
	return e
}

func elasticURL(s *site) string     { return "https://" + s.addr(1, "http") }
func elasticWeb(s *site) *web       { return &web{s.tls.ca(), elasticUser, elasticPassword} }
func elasticKeyFile(s *site) string { return filepath.Join(s.dir, "api_key") }

// elasticKey makes an API key, once; its text is what goes into the header Authorization after "ApiKey".
func elasticKey(ctx context.Context, s *site) error {
	if _, err := os.Stat(elasticKeyFile(s)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := elasticWeb(s).ask(ctx, http.MethodPost, elasticURL(s)+"/_security/api_key", `{"name":"engines"}`)
	if err != nil {
		return err
	}
	var key struct{ Encoded string }
	if err := json.Unmarshal(text, &key); err != nil || key.Encoded == "" {
		return fmt.Errorf("make an API key: %.300s: %w", text, err)
	}
	return writeFile(elasticKeyFile(s), []byte(key.Encoded))
}

func elastic(name, modules string, flags []string) engine {
	return engine{
		name: name, nodes: 1, ports: []string{"http", "transport"},
		needs: []tool{
			java(),
			{command: "javac", debian: "default-jdk-headless"},
			{command: "mvn", debian: "maven"},
		},
		programs: func() recipe {
			return recipe{
				name: "elasticsearch", version: elasticVersion,
				from: []string{string(elasticPom), string(elasticMain), string(elasticExtras)}, make: makeElastic,
			}
		},
		configure: func(_ context.Context, s *site) error {
			config := filepath.Join(s.node(1), "config") // it reads certificates from nowhere else
			for from, to := range map[string]string{s.tls.cert(): "server.crt", s.tls.key(): "server.key"} {
				text, err := os.ReadFile(from) //nolint:gosec // the set's own certificate
				if err == nil {
					err = writeFile(filepath.Join(config, to), text)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
		command: func(s *site, n int) (command, error) {
			args := append([]string{"-Xms512m", "-Xmx512m"}, flags...)
			args = append(args, "-cp", filepath.Join(s.Programs, "lib", "*"), "Elastic", s.node(n),
				strconv.Itoa(s.port(n, "http")), strconv.Itoa(s.port(n, "transport")), filepath.Join(s.Programs, modules))
			var env []string
			if modules == "secure" {
				env = []string{"ELASTIC_PASSWORD=" + elasticPassword}
			}
			return command{path: s.Tools["java"], args: args, env: env}, nil
		},
	}
}

// makeElastic brings the jars and lays them out as the server wants its modules: each a directory with a descriptor.
func makeElastic(ctx context.Context, s *site, dir string) error {
	if err := mavenCopy(ctx, s, dir, elasticPom); err != nil {
		return err
	}
	netty, core := []string{"netty-*", "transport-netty4-*"}, []string{
		"x-pack-core-*", "x-pack-template-*", "commons-*", "http*", "log4j-1.2-*", "log4j-slf4j*", "slf4j-*", "unboundid-*",
	}
	return errors.Join(
		// The program first, while all that it may ask for is in one place.
		elasticJava(ctx, s, dir),
		linkJars(dir, netty, "open/transport-netty4", "secure/transport-netty4", "secure/x-pack-security"),
		linkJars(dir, core, "open/x-pack-core", "secure/x-pack-core"),
		linkJars(dir, []string{"x-pack-security-*"}, "secure/x-pack-security"),
		linkJars(dir, []string{"extras.jar"}, "open/extras", "secure/extras"),
		descriptor(dir, "open", "transport-netty4"), descriptor(dir, "open", "x-pack-core"),
		descriptor(dir, "secure", "transport-netty4"), descriptor(dir, "secure", "x-pack-core"), descriptor(dir, "secure", "x-pack-security"),
		extrasDescriptor(dir, "open"), extrasDescriptor(dir, "secure"),
	)
}

// elasticJava compiles the program that starts a node and the module that stands in for what Maven has not.
func elasticJava(ctx context.Context, s *site, dir string) error {
	src, out := filepath.Join(dir, "src"), filepath.Join(dir, "classes")
	lib := filepath.Join(dir, "lib", "*")
	for name, text := range map[string][]byte{"Elastic.java": elasticMain, "Extras.java": elasticExtras} {
		if err := writeFile(filepath.Join(src, name), text); err != nil {
			return err
		}
	}
	for _, name := range []string{"Elastic", "Extras"} {
		if _, err := run(ctx, command{path: s.Tools["javac"], args: []string{
			"-nowarn", "-proc:none", "-cp", lib, "-d", filepath.Join(out, name), filepath.Join(src, name+".java"),
		}}); err != nil {
			return err
		}
	}
	return errors.Join(
		writeJar(filepath.Join(dir, "lib", "elastic-main.jar"), filepath.Join(out, "Elastic")),
		writeJar(filepath.Join(dir, "lib", "extras.jar"), filepath.Join(out, "Extras")),
	)
}

func writeJar(path, classes string) error {
	var b bytes.Buffer
	jar := zip.NewWriter(&b)
	if err := errors.Join(jar.AddFS(os.DirFS(classes)), jar.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeFile(path, b.Bytes())
}

// linkJars moves what matches from dir/lib to the first of the modules, and links it into the others.
func linkJars(dir string, patterns []string, modules ...string) error {
	for _, pattern := range patterns {
		jars, err := filepath.Glob(filepath.Join(dir, "lib", pattern))
		if err != nil {
			return err
		}
		for _, jar := range jars {
			for _, m := range modules {
				to := filepath.Join(dir, m, filepath.Base(jar))
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // programs are no secret
					return err
				}
				if err := os.Link(jar, to); err != nil {
					return err
				}
			}
			if err := os.Remove(jar); err != nil {
				return err
			}
		}
	}
	return nil
}

// descriptor takes a module's descriptor out of its jar, since the server wants it beside the jar; on the class path it
// may name no Java module.
func descriptor(dir, set, module string) (err error) {
	path := filepath.Join(dir, set, module, module+"-"+elasticVersion+".jar")
	jar, err := zip.OpenReader(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { err = errors.Join(err, jar.Close()) }()
	f, err := jar.Open("META-INF/es-plugins/" + module + "/plugin-descriptor.properties")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "modulename=") {
			kept = append(kept, line)
		}
	}
	return writeFile(filepath.Join(dir, set, module, "plugin-descriptor.properties"), []byte(strings.Join(kept, "")))
}

func extrasDescriptor(dir, set string) error {
	return writeFile(filepath.Join(dir, set, "extras", "plugin-descriptor.properties"), []byte(
		"name=extras\ndescription=extras\nversion="+elasticVersion+"\nelasticsearch.version="+elasticVersion+
			"\njava.version=17\nclassname=engines.Extras\n"))
}
