#!/usr/bin/env bash
# The engines of engines.yml as tests want them.
#   engines.sh up                        start, wait until all are healthy, write where they are, and print the line for a shell
#   engines.sh down                      end them and remove what they kept
#   engines.sh file                      print what is written: pkg/enginetest reads it
#   engines.sh kill|start|pause|resume ENGINE NODE
# It needs Docker with Compose 2.23.1 or later (configurations in the file itself) on Linux.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
file=${MILLRACE_ENGINES:-${TMPDIR:-/tmp}/millrace-engines.json}
compose() { docker compose -f "$here/engines.yml" "$@"; }

describe() {
  cat <<JSON
{
  "control": ["$here/engines.sh"],
  "engines": {
    "kafka": {"url": "kafka://127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094", "nodes": "3"},
    "nats": {"url": "nats://127.0.0.1:14222", "nodes": "1"},
    "nats-cluster": {"url": "nats://127.0.0.1:14223,127.0.0.1:14224,127.0.0.1:14225", "nodes": "3", "user": "millrace", "password": "millrace-secret"},
    "clickhouse": {"url": "clickhouse://default@127.0.0.1:19000/default", "http_url": "http://default@127.0.0.1:18123/default", "nodes": "1",
      "user": "millrace", "password": "millrace-secret"},
    "elasticsearch": {"url": "http://127.0.0.1:19200", "nodes": "1"},
    "postgres": {"url": "postgres://millrace:millrace-secret@127.0.0.1:15432/millrace?sslmode=disable", "nodes": "1",
      "user": "millrace", "password": "millrace-secret", "database": "millrace"},
    "s3": {"url": "s3://millrace?endpoint=http://127.0.0.1:17070&region=us-east-1&use_path_style=true", "nodes": "1",
      "endpoint": "http://127.0.0.1:17070", "bucket": "millrace", "region": "us-east-1", "access_key": "millrace", "secret_key": "millrace-secret"}
  },
  "missing": {"nats-secure": "only with make engines", "elasticsearch-secure": "only with make engines"}
}
JSON
}

case ${1:-} in
up)
  compose up -d --wait >&2
  describe >"$file"
  echo "export MILLRACE_ENGINES=$file"
  ;;
down)
  compose down -v >&2
  rm -f "$file"
  ;;
file) describe ;;
kill) compose kill -s SIGKILL "$2-$3" ;;
# --wait returns when it is healthy; other nodes are left as they are.
start) compose up -d --wait --no-deps --no-recreate "$2-$3" ;;
pause) compose pause "$2-$3" ;;
resume) compose unpause "$2-$3" 2>/dev/null || compose ps -q --status running "$2-$3" | grep -q . ;;
*)
  sed -n '2,7s/^# //p' "$0" >&2
  exit 2
  ;;
esac
