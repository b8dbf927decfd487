package schemas

import (
	"embed"
	"io/fs"
)

//go:embed elasticsearch/*.json
var elasticsearchFiles embed.FS

// Elasticsearch returns the index templates: settings.json, a component template that all others are composed of, and
// <table>.json, each a composable template. Their names and patterns begin with "millrace", in whose place the configured
// prefix is put. Fields are only ever added; _meta.millrace_version rises with each change.
func Elasticsearch() fs.FS {
	sub, err := fs.Sub(elasticsearchFiles, "elasticsearch")
	if err != nil {
		return elasticsearchFiles // not reached: the folder is embedded
	}
	return sub
}
