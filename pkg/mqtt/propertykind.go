package mqtt

// kind is how the value of a property is encoded (MQTT 5, table 2-4).
type kind uint8

const (
	kindNone kind = iota
	kindByte      // and always 0 or 1
	kindUint16
	kindUint32
	kindVarint
	kindText
	kindBinary
	kindPair
)

func kindOf(id PropertyID) kind {
	switch id {
	case PropPayloadFormat, PropRequestProblem, PropRequestResponse, PropMaximumQoS, PropRetainAvailable,
		PropWildcardAvailable, PropSubscriptionIDsAvailable, PropSharedAvailable:
		return kindByte
	case PropServerKeepAlive, PropReceiveMaximum, PropTopicAliasMaximum, PropTopicAlias:
		return kindUint16
	case PropMessageExpiry, PropSessionExpiry, PropWillDelay, PropMaximumPacketSize:
		return kindUint32
	case PropSubscriptionID:
		return kindVarint
	case PropContentType, PropResponseTopic, PropAssignedClientID, PropAuthMethod, PropResponseInformation,
		PropServerReference, PropReasonString:
		return kindText
	case PropCorrelationData, PropAuthData:
		return kindBinary
	case PropUser:
		return kindPair
	default:
		return kindNone
	}
}

// allowedProperties returns a bit for each property that a packet of type t may carry (MQTT 5, table 2-4).
func allowedProperties(t Type) uint64 {
	const (
		user    = 1 << PropUser
		answer  = user | 1<<PropReasonString
		auth    = 1<<PropAuthMethod | 1<<PropAuthData
		limits  = 1<<PropReceiveMaximum | 1<<PropMaximumPacketSize | 1<<PropTopicAliasMaximum
		message = user | 1<<PropPayloadFormat | 1<<PropMessageExpiry | 1<<PropContentType | 1<<PropResponseTopic |
			1<<PropCorrelationData
		features = 1<<PropMaximumQoS | 1<<PropRetainAvailable | 1<<PropWildcardAvailable |
			1<<PropSubscriptionIDsAvailable | 1<<PropSharedAvailable
	)
	switch t {
	case TypeConnect:
		return user | auth | limits | 1<<PropSessionExpiry | 1<<PropRequestProblem | 1<<PropRequestResponse
	case TypeConnack:
		return answer | auth | limits | features | 1<<PropSessionExpiry | 1<<PropAssignedClientID |
			1<<PropServerKeepAlive | 1<<PropResponseInformation | 1<<PropServerReference
	case typeWill:
		return message | 1<<PropWillDelay
	case TypePublish:
		return message | 1<<PropTopicAlias | 1<<PropSubscriptionID
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp, TypeSuback, TypeUnsuback:
		return answer
	case TypeSubscribe:
		return user | 1<<PropSubscriptionID
	case TypeUnsubscribe:
		return user
	case TypeDisconnect:
		return answer | 1<<PropSessionExpiry | 1<<PropServerReference
	case TypeAuth:
		return answer | auth
	default:
		return 0
	}
}

// byteField returns the field of a property of kindByte. The four of these return nil for any other.
func (p *Properties) byteField(id PropertyID) *byte {
	switch id {
	case PropPayloadFormat:
		return &p.PayloadFormat
	case PropRequestProblem:
		return &p.RequestProblem
	case PropRequestResponse:
		return &p.RequestResponse
	case PropMaximumQoS:
		return &p.MaximumQoS
	case PropRetainAvailable:
		return &p.RetainAvailable
	case PropWildcardAvailable:
		return &p.WildcardAvailable
	case PropSubscriptionIDsAvailable:
		return &p.SubscriptionIDsAvailable
	case PropSharedAvailable:
		return &p.SharedAvailable
	default:
		return nil
	}
}

func (p *Properties) uint16Field(id PropertyID) *uint16 {
	switch id {
	case PropServerKeepAlive:
		return &p.ServerKeepAlive
	case PropReceiveMaximum:
		return &p.ReceiveMaximum
	case PropTopicAliasMaximum:
		return &p.TopicAliasMaximum
	case PropTopicAlias:
		return &p.TopicAlias
	default:
		return nil
	}
}

func (p *Properties) uint32Field(id PropertyID) *uint32 {
	switch id {
	case PropMessageExpiry:
		return &p.MessageExpiry
	case PropSessionExpiry:
		return &p.SessionExpiry
	case PropWillDelay:
		return &p.WillDelay
	case PropMaximumPacketSize:
		return &p.MaximumPacketSize
	default:
		return nil
	}
}

func (p *Properties) textField(id PropertyID) *[]byte {
	switch id {
	case PropContentType:
		return &p.ContentType
	case PropResponseTopic:
		return &p.ResponseTopic
	case PropCorrelationData:
		return &p.CorrelationData
	case PropAssignedClientID:
		return &p.AssignedClientID
	case PropAuthMethod:
		return &p.AuthMethod
	case PropAuthData:
		return &p.AuthData
	case PropResponseInformation:
		return &p.ResponseInformation
	case PropServerReference:
		return &p.ServerReference
	case PropReasonString:
		return &p.ReasonString
	default:
		return nil
	}
}
