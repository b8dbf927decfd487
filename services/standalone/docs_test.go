package standalone_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/services/standalone"
)

// docs is the folder of the documentation.
const docs = "../../docs"

// wantPage holds a page of docs against what the code says; MILLRACE_UPDATE=1 writes it again.
func wantPage(t *testing.T, name string, want []byte) {
	t.Helper()
	path := filepath.Join(docs, name)
	if os.Getenv("MILLRACE_UPDATE") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("docs/%s is not what the code says, from line %d on: run `make docs`\n got: %s\nwant: %s",
				name, i+1, line(gotLines, i), line(wantLines, i))
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(the end)"
}

func head(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDocsConfiguration makes docs/configuration.md from the types that configurations are read into.
func TestDocsConfiguration(t *testing.T) {
	page := bytes.NewBuffer(head(t, "configuration.head.md"))
	if err := config.Markdown(page, config.Describe(standalone.DefaultConfig())...); err != nil {
		t.Fatal(err)
	}
	conditions(page)
	wantPage(t, "configuration.md", page.Bytes())
}

// conditions writes what the conditions of routes and of rules on messages may look at.
func conditions(page *bytes.Buffer) {
	page.WriteString("\n## Conditions\n\nA condition of a route, or of a rule on messages, is a CEL expression over these:\n\n" +
		"| variable | type | what it is |\n|---|---|---|\n")
	for _, v := range rules.MessageVariables() {
		fmt.Fprintf(page, "| `%s` | `%s` | %s |\n", v.Name, v.Type, strings.NewReplacer("<", `\<`, "|", `\|`).Replace(v.Doc))
	}
	page.WriteString("\nA member or property that a message does not have is an error where it is used: `has(json.state) && json.state == \"open\"` asks first.\n")
}

// TestDocsHaveNoKeyWithoutMeaning looks for keys that the page cannot explain.
func TestDocsHaveNoKeyWithoutMeaning(t *testing.T) {
	for _, k := range config.Describe(standalone.DefaultConfig()) {
		if k.Doc == "" {
			t.Errorf("%s has no doc tag", k.Key)
		}
	}
}

var (
	yamlBlock  = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	secretFile = regexp.MustCompile(`\$\{file:[^}]*\}`)
	variable   = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)
)

// pages returns every page of docs and of the folders in it.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "*/*.md"} {
		some, err := filepath.Glob(filepath.Join(docs, pattern))
		if err != nil || len(some) == 0 {
			t.Fatalf("no pages in docs/%s: %v", pattern, err)
		}
		all = append(all, some...)
	}
	return all
}

// TestDocsExamplesLoad reads every configuration that a page of docs shows as an operator's file would be read.
func TestDocsExamplesLoad(t *testing.T) {
	for _, page := range pages(t) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range yamlBlock.FindAllSubmatch(b, -1) {
			// what an example refers to is not on this machine
			text := secretFile.ReplaceAll(block[1], []byte("secret"))
			var env []string
			for _, name := range variable.FindAllSubmatch(text, -1) {
				env = append(env, string(name[1])+"=value")
			}
			if err := load(filepath.Base(page), text, env...); err != nil {
				t.Errorf("%s shows what is refused:\n%s%v", page, block[1], err)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestDocsLinksLeadSomewhere follows every link of README.md and docs to a file of ours.
func TestDocsLinksLeadSomewhere(t *testing.T) {
	for _, page := range append(pages(t), filepath.Join(docs, "..", "README.md")) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range link.FindAllSubmatch(b, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), string(target[1]))); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// TestDeployedFilesLoad reads the example configurations of deploy.
func TestDeployedFilesLoad(t *testing.T) {
	for _, name := range []string{"millrace.yml", "compose/millrace.yml", "split/millrace.yml", "scale/nats.yml", "scale/kafka.yml"} {
		b, err := os.ReadFile(filepath.Join("../../deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		b = secretFile.ReplaceAll(b, []byte("secret"))
		if err := load(name, b); err != nil {
			t.Errorf("deploy/%s: %v", name, err)
		}
	}
	manifests, err := os.ReadFile("../../deploy/k8s/millrace.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, inside, _ := strings.Cut(string(manifests), "  millrace.yml: |\n")
	inside, _, found := strings.Cut(inside, "---\n")
	if !found {
		t.Fatal("deploy/k8s/millrace.yml has no millrace.yml in its ConfigMap")
	}
	if err := load("the ConfigMap", []byte(strings.ReplaceAll(inside, "\n    ", "\n")[len("    "):])); err != nil {
		t.Errorf("deploy/k8s/millrace.yml: %v", err)
	}
}

func load(name string, text []byte, env ...string) error {
	cfg := standalone.DefaultConfig()
	return config.Load(config.Source{File: name, YAML: text, Env: env}, &cfg)
}
