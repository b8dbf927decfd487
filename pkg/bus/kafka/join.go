package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	groupProtocol     = "millrace-shares"
	groupProtocolType = "consumer"
	// rebalanceMax is how long the group waits for members that do not come to a new deal. They come at once, since a deal interrupts
	// nothing.
	rebalanceMax = 30 * time.Second
)

// join takes part in a deal of the shares, and starts and ends terms as it came out. What went wrong for now is tried again.
func (m *member) join(life context.Context, leave func()) {
	began := m.log.cfg.Now()
	mine, err := m.dealt(life)
	switch {
	case life.Err() != nil:
	case err == nil:
		m.told = false
		m.contact = m.log.cfg.Now()
		m.adopt(life, leave, mine)
	case errors.Is(err, kafkago.InvalidSessionTimeout), errors.Is(err, kafkago.InconsistentGroupProtocol), errors.Is(err, kafkago.InvalidGroupId),
		errors.Is(err, kafkago.GroupAuthorizationFailed), errors.Is(err, kafkago.TopicAuthorizationFailed):
		m.fatal = fmt.Errorf("join: %w", err)
		leave()
	default:
		if !m.told && !errors.Is(err, kafkago.RebalanceInProgress) {
			m.told = true // once, not four times a second
			m.log.cfg.Log.Warn("cannot join a group; trying on", "group", m.group, "error", err)
		}
		m.judge(err, began)
		m.rejoin = true
		pause(life, joinPause)
	}
}

// dealt joins, deals where this member is the one that does, and returns this member's part.
func (m *member) dealt(ctx context.Context) ([]int, error) {
	joined, err := m.joinGroup(ctx)
	if err != nil {
		return nil, err
	}
	m.stand(joined.MemberID, int32(joined.GenerationID)) //nolint:gosec // 32 bits on the wire
	req := &kafkago.SyncGroupRequest{
		GroupID: m.group, GenerationID: joined.GenerationID, MemberID: joined.MemberID,
		ProtocolType: groupProtocolType, ProtocolName: groupProtocol,
	}
	if joined.LeaderID == joined.MemberID {
		req.Assignments = m.assignments(joined.Members)
	}
	ctx, cancel := m.log.bounded(ctx, rebalanceMax+requestTimeout)
	defer cancel()
	res, err := m.log.client.SyncGroup(ctx, req)
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("sync group: %w", err)
	}
	return res.Assignment.AssignedPartitions[m.log.cfg.Prefix+m.topics[0]], nil
}

func (m *member) joinGroup(ctx context.Context) (*kafkago.JoinGroupResponse, error) {
	ctx, cancel := m.log.bounded(ctx, rebalanceMax+requestTimeout)
	defer cancel()
	id, generation := m.standing()
	claim := claimant{generation: generation}
	for number := range m.terms {
		claim.shares = append(claim.shares, number)
	}
	slices.Sort(claim.shares)
	topics := make([]string, 0, len(m.topics))
	for _, topic := range m.topics {
		topics = append(topics, m.log.cfg.Prefix+topic)
	}
	req := &kafkago.JoinGroupRequest{
		GroupID: m.group, MemberID: id, SessionTimeout: m.log.cfg.Lease, RebalanceTimeout: rebalanceMax, ProtocolType: groupProtocolType,
		Protocols: []kafkago.GroupProtocol{{
			Name: groupProtocol, Metadata: kafkago.GroupProtocolSubscription{Topics: topics, UserData: appendClaim(nil, claim)},
		}},
	}
	for {
		res, err := m.log.client.JoinGroup(ctx, req)
		if err == nil && errors.Is(res.Error, kafkago.MemberIDRequired) && req.MemberID == "" {
			req.MemberID = res.MemberID // the first answer gives a new member its id
			m.stand(res.MemberID, generation)
			continue
		}
		if err == nil {
			err = res.Error
		}
		if err != nil {
			return nil, fmt.Errorf("join group: %w", err)
		}
		return res, nil
	}
}

// assignments deals the shares out.
func (m *member) assignments(members []kafkago.JoinGroupResponseMember) []kafkago.SyncGroupRequestAssignment {
	claims := make([]claimant, 0, len(members))
	for _, other := range members {
		claim, err := parseClaim(other.ID, other.Metadata.UserData)
		if err != nil {
			m.log.cfg.Log.Warn("a member of a group says nothing of its shares", "group", m.group, "member", other.ID, "error", err)
		}
		claims = append(claims, claim)
	}
	parts := deal(m.log.cfg.Partitions, claims)
	list := make([]kafkago.SyncGroupRequestAssignment, 0, len(members))
	for _, other := range members {
		assigned := map[string][]int{} // every topic, so that Kafka's own tools show who reads what
		for _, topic := range other.Metadata.Topics {
			assigned[topic] = parts[other.ID]
		}
		list = append(list, kafkago.SyncGroupRequestAssignment{
			MemberID: other.ID, Assignment: kafkago.GroupProtocolAssignment{AssignedPartitions: assigned},
		})
	}
	return list
}

// adopt starts and ends terms so that they are those of the shares in mine.
func (m *member) adopt(life context.Context, leave func(), mine []int) {
	m.log.metrics.rebalances.Inc()
	clear(m.assigned)
	for _, number := range mine {
		if number < 0 || number >= m.log.cfg.Partitions {
			m.log.cfg.Log.Warn("a group was dealt a share that there is not", "group", m.group, "share", number)
			continue
		}
		m.assigned[number] = true
		if _, running := m.terms[number]; !running {
			m.start(life, leave, number)
		}
	}
	for number, t := range m.terms {
		if !m.assigned[number] {
			t.ended = true
			t.cancel()
		}
	}
}
