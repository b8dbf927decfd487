package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	replicasDefault = 3
	layoutMax       = time.Minute // for topics to get their leaders
	layoutPause     = 100 * time.Millisecond
)

// setting is one of a topic's, as Millrace wants it.
type setting struct{ name, value string }

// settings returns what topics are created with. Kafka deletes nothing by itself, since it does not know who has read what; the trimmer
// does. Small segments let it free room soon. The log's clock gives the records their time.
func (c Config) settings(replicas int) []setting {
	list := []setting{
		{"cleanup.policy", "delete"},
		{"retention.ms", "-1"},
		{"retention.bytes", "-1"},
		{"segment.bytes", strconv.Itoa(segmentBytes)},
		{"max.message.bytes", strconv.Itoa(c.messageBytes())},
		{"message.timestamp.type", "LogAppendTime"},
		{"unclean.leader.election.enable", "false"},
	}
	if replicas >= 3 {
		list = append(list, setting{"min.insync.replicas", strconv.Itoa(replicas - 1)})
	}
	return list
}

const segmentBytes = 64 << 20

// messageBytes is the size of the largest batch.
func (c Config) messageBytes() int { return c.BatchBytesMax + batchOverheadBytes }

// layOut creates what is missing, checks what is there, and waits until every partition answers.
func (l *Log) layOut(ctx context.Context) error {
	ctx, cancel := l.bounded(ctx, layoutMax)
	defer cancel()
	names := make([]string, 0, len(l.topics))
	for _, topic := range l.topics {
		names = append(names, l.cfg.Prefix+topic)
	}
	meta, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: names})
	if err != nil {
		return fmt.Errorf("ask for the topics: %w", err)
	}
	missing, err := l.missing(meta)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := l.create(ctx, missing, len(meta.Brokers)); err != nil {
			return err
		}
	}
	if err := l.awaitLeaders(ctx); err != nil {
		return err
	}
	if err := l.checkSettings(ctx, names); err != nil {
		return err
	}
	return nil
}

// missing returns the topics that there are not, and an error where one has another number of partitions.
func (l *Log) missing(meta *kafkago.MetadataResponse) ([]string, error) {
	var missing []string
	var errs []error
	for _, topic := range meta.Topics {
		switch {
		case errors.Is(topic.Error, kafkago.UnknownTopicOrPartition):
			missing = append(missing, topic.Name)
		case topic.Error != nil && !errors.Is(topic.Error, kafkago.LeaderNotAvailable):
			errs = append(errs, fmt.Errorf("topic %s: %w", topic.Name, topic.Error))
		case len(topic.Partitions) != l.cfg.Partitions:
			errs = append(errs, fmt.Errorf("topic %s has %d partitions, want %d: the number cannot be changed, since devices would move",
				topic.Name, len(topic.Partitions), l.cfg.Partitions))
		}
	}
	return missing, errors.Join(errs...)
}

func (l *Log) create(ctx context.Context, missing []string, brokers int) error {
	replicas := l.cfg.Replicas
	if replicas == 0 {
		replicas = min(replicasDefault, max(brokers, 1))
	}
	if !l.cfg.CreateTopics {
		return fmt.Errorf("topics are missing, and create_topics is not set: create them by\n%s", l.howToCreate(missing, replicas))
	}
	if replicas > brokers {
		return fmt.Errorf("replicas: %d, but there are %d brokers", replicas, brokers)
	}
	req := &kafkago.CreateTopicsRequest{}
	for _, topic := range missing {
		config := kafkago.TopicConfig{Topic: topic, NumPartitions: l.cfg.Partitions, ReplicationFactor: replicas}
		for _, s := range l.cfg.settings(replicas) {
			config.ConfigEntries = append(config.ConfigEntries, kafkago.ConfigEntry{ConfigName: s.name, ConfigValue: s.value})
		}
		req.Topics = append(req.Topics, config)
	}
	res, err := l.client.CreateTopics(ctx, req)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	var errs []error
	for _, topic := range missing {
		if err := res.Errors[topic]; err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) { // another process was quicker
			errs = append(errs, fmt.Errorf("create topic %s: %w", topic, err))
		}
	}
	return errors.Join(errs...)
}

// howToCreate returns a command for each topic.
func (l *Log) howToCreate(topics []string, replicas int) string {
	brokers, _ := l.cfg.brokers()
	var s strings.Builder
	for _, topic := range topics {
		fmt.Fprintf(&s, "kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d --replication-factor %d",
			brokers[0], topic, l.cfg.Partitions, replicas)
		for _, setting := range l.cfg.settings(replicas) {
			fmt.Fprintf(&s, " --config %s=%s", setting.name, setting.value)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// awaitLeaders waits until the leader of every partition answers: brokers learn of new topics one after the other.
func (l *Log) awaitLeaders(ctx context.Context) error {
	for _, p := range l.parts {
		for {
			_, err := l.offset(ctx, p, kafkago.LastOffset)
			if err == nil {
				break
			}
			if errors.Is(err, kafkago.TopicAuthorizationFailed) || !pause(ctx, layoutPause) {
				return fmt.Errorf("%s has no leader that answers: %w", p.id, err)
			}
		}
	}
	return nil
}

// checkSettings refuses topics that cannot hold our batches, and warns of those that may lose records.
func (l *Log) checkSettings(ctx context.Context, names []string) error {
	req := &kafkago.DescribeConfigsRequest{}
	for _, name := range names {
		req.Resources = append(req.Resources, kafkago.DescribeConfigRequestResource{ResourceType: kafkago.ResourceTypeTopic, ResourceName: name})
	}
	res, err := l.client.DescribeConfigs(ctx, req)
	if err != nil {
		l.cfg.Log.Warn("cannot read the topics' settings, so they are not checked", "error", err)
		return nil
	}
	meta, err := l.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: names})
	if err != nil {
		return fmt.Errorf("ask for the topics: %w", err)
	}
	var errs []error
	for _, r := range res.Resources {
		if r.Error != nil {
			l.cfg.Log.Warn("cannot read a topic's settings, so they are not checked", "topic", r.ResourceName, "error", r.Error)
			continue
		}
		is := map[string]string{}
		for _, entry := range r.ConfigEntries {
			is[entry.ConfigName] = entry.ConfigValue
		}
		faults := faultsOf(is, replicasOf(meta, r.ResourceName))
		for _, fault := range faults {
			l.cfg.Log.Warn("a topic's setting puts acknowledged or unread records at risk", "topic", r.ResourceName, "setting", fault)
		}
		if limit, err := strconv.Atoi(is["max.message.bytes"]); err == nil && limit < l.cfg.BatchBytesMax {
			errs = append(errs, fmt.Errorf("topic %s: max.message.bytes is %d, want at least batch_bytes_max, %d", r.ResourceName, limit, l.cfg.BatchBytesMax))
		}
	}
	return errors.Join(errs...)
}

func replicasOf(meta *kafkago.MetadataResponse, topic string) int {
	at := slices.IndexFunc(meta.Topics, func(t kafkago.Topic) bool { return t.Name == topic })
	if at < 0 || len(meta.Topics[at].Partitions) == 0 {
		return 0
	}
	return len(meta.Topics[at].Partitions[0].Replicas)
}

// faultsOf says what of a topic's settings does not keep what Millrace promises.
func faultsOf(is map[string]string, replicas int) []string {
	var faults []string
	risky := func(bad bool, what, why string) {
		if bad {
			faults = append(faults, what+"="+is[what]+": "+why)
		}
	}
	inSync, err := strconv.Atoi(is["min.insync.replicas"])
	risky(is["retention.ms"] != "-1", "retention.ms", "Kafka deletes records that nobody has read, want -1")
	risky(is["retention.bytes"] != "-1", "retention.bytes", "Kafka deletes records that nobody has read, want -1")
	risky(is["cleanup.policy"] != "delete", "cleanup.policy", "Kafka may drop records, want delete")
	risky(err == nil && replicas >= 3 && inSync < 2, "min.insync.replicas", "an acknowledged record may be on one broker only, want 2")
	risky(is["unclean.leader.election.enable"] == "true", "unclean.leader.election.enable", "a broker that lags may become leader without acknowledged records, want false")
	risky(is["message.timestamp.type"] != "LogAppendTime", "message.timestamp.type", "records bear the writers' clocks, so reading from a time is not exact, want LogAppendTime")
	if replicas == 1 {
		faults = append(faults, "replication.factor=1: records are lost with their broker's disk")
	}
	return faults
}
