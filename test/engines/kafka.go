package engines

import (
	"context"
	"crypto/rand"
	_ "embed" // the list of jars
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
)

//go:embed kafka/pom.xml
var kafkaPom []byte

const (
	kafkaVersion  = "4.3.0"
	kafkaNodes    = 3
	kafkaUser     = "millrace"
	kafkaPassword = "millrace-secret"
)

// kafka is three brokers that are controllers too (KRaft), each with a listener in plain text and one with TLS and SASL.
func kafka() engine {
	return engine{
		name: "kafka", nodes: kafkaNodes, ports: []string{"plain", "secure", "controller"},
		needs: []tool{java(), {command: "mvn", debian: "maven"}},
		programs: func() recipe {
			return recipe{name: "kafka", version: kafkaVersion, from: []string{string(kafkaPom)}, make: func(ctx context.Context, s *site, dir string) error {
				return mavenCopy(ctx, s, dir, kafkaPom)
			}}
		},
		configure: configureKafka,
		command: func(s *site, n int) (command, error) {
			return command{path: s.Tools["java"], args: []string{
				"-Xms384m", "-Xmx384m", "-XX:+UseG1GC", "-cp", kafkaJars(s), "-Dorg.slf4j.simpleLogger.showDateTime=true",
				"kafka.Kafka", kafkaProperties(s, n),
			}}, nil
		},
		healthy: kafkaHealthy,
		settings: func(s *site) (map[string]string, error) {
			return map[string]string{
				"url": "kafka://" + s.addrs("plain"), "secure_url": "kafka://" + s.addrs("secure"),
				"ca": s.tls.ca(), "user": kafkaUser, "password": kafkaPassword,
			}, nil
		},
	}
}

func kafkaJars(s *site) string              { return filepath.Join(s.Programs, "lib", "*") }
func kafkaProperties(s *site, n int) string { return filepath.Join(s.node(n), "server.properties") }

func configureKafka(ctx context.Context, s *site) error {
	id, err := kafkaCluster(s)
	if err != nil {
		return err
	}
	var voters []string
	for n := 1; n <= kafkaNodes; n++ {
		voters = append(voters, fmt.Sprintf("%d@%s", n, s.addr(n, "controller")))
	}
	for n := 1; n <= kafkaNodes; n++ {
		text := fmt.Sprintf(kafkaTemplate, n, strings.Join(voters, ","),
			s.addr(n, "plain"), s.addr(n, "secure"), s.addr(n, "controller"), kafkaUser, kafkaPassword, s.tls.bundle(), s.node(n))
		if err := writeFile(kafkaProperties(s, n), []byte(text)); err != nil {
			return err
		}
	}
	// The user of SCRAM is written where a node's metadata begin, so the three are formatted alike and before they start.
	set := &Set{}
	e := engine{nodes: kafkaNodes}
	return set.eachNode(e, func(n int) error {
		_, err := os.Stat(filepath.Join(s.node(n), "data", "meta.properties"))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_, err = run(ctx, command{path: s.Tools["java"], args: []string{
			"-XX:TieredStopAtLevel=1", "-cp", kafkaJars(s), "kafka.tools.StorageTool", "format", "-t", id, "-c", kafkaProperties(s, n),
			"--add-scram", "SCRAM-SHA-512=[name=" + kafkaUser + ",password=" + kafkaPassword + "]",
		}})
		return err
	})
}

// kafkaCluster gives the id of the cluster, which is made once.
func kafkaCluster(s *site) (string, error) {
	path := filepath.Join(s.dir, "cluster.id")
	if id, err := os.ReadFile(path); err == nil { //nolint:gosec // a file of the set
		return string(id), nil
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	id[0] &= 0x7f // so that the text begins with no dash, which would be an option
	text := base64.RawURLEncoding.EncodeToString(id)
	return text, writeFile(path, []byte(text))
}

// kafkaTemplate is a broker's configuration. Two of three brokers must have a record; few partitions of the groups'
// topic, since a broker opens a file or two for each.
const kafkaTemplate = `process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://%[3]s,SASL_SSL://%[4]s,CONTROLLER://%[5]s
advertised.listeners=PLAINTEXT://%[3]s,SASL_SSL://%[4]s
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%[6]s="%[7]s";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=%[8]s
log.dirs=%[9]s/data
offsets.topic.replication.factor=3
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
default.replication.factor=3
min.insync.replicas=2
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
`

// kafkaHealthy asks broker n itself: it counts itself among the brokers, and has caught up with the leader of every
// partition that it keeps, so that another one may be killed next.
func kafkaHealthy(ctx context.Context, s *site, n int) error {
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(s.addr(n, "plain")), Transport: transport}
	m, err := client.Metadata(ctx, &kafkago.MetadataRequest{})
	if err != nil {
		return err
	}
	is := func(b kafkago.Broker) bool { return b.ID == n }
	if !slices.ContainsFunc(m.Brokers, is) {
		return fmt.Errorf("broker %d is not yet one of the cluster", n)
	}
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			if slices.ContainsFunc(p.Replicas, is) && !slices.ContainsFunc(p.Isr, is) {
				return fmt.Errorf("broker %d has not caught up with %s[%d]", n, t.Name, p.ID)
			}
		}
	}
	return nil
}
