package mqtt

import (
	"fmt"
	"slices"
)

// Reason is an MQTT 5 reason code (MQTT 5, 2.4). From 0x80 on it says that something was refused or failed.
type Reason uint8

// The reason codes. Some values have more than one name, by the packet that carries them.
const (
	ReasonSuccess                     Reason = 0x00 // also normal disconnection, and granted QoS 0
	ReasonGrantedQoS1                 Reason = 0x01
	ReasonGrantedQoS2                 Reason = 0x02
	ReasonDisconnectWithWill          Reason = 0x04
	ReasonNoMatchingSubscribers       Reason = 0x10
	ReasonNoSubscriptionExisted       Reason = 0x11
	ReasonContinueAuthentication      Reason = 0x18
	ReasonReauthenticate              Reason = 0x19
	ReasonUnspecified                 Reason = 0x80
	ReasonMalformedPacket             Reason = 0x81
	ReasonProtocolError               Reason = 0x82
	ReasonImplementationSpecific      Reason = 0x83
	ReasonUnsupportedVersion          Reason = 0x84
	ReasonClientIDNotValid            Reason = 0x85
	ReasonBadUserNameOrPassword       Reason = 0x86
	ReasonNotAuthorized               Reason = 0x87
	ReasonServerUnavailable           Reason = 0x88
	ReasonServerBusy                  Reason = 0x89
	ReasonBanned                      Reason = 0x8A
	ReasonServerShuttingDown          Reason = 0x8B
	ReasonBadAuthenticationMethod     Reason = 0x8C
	ReasonKeepAliveTimeout            Reason = 0x8D
	ReasonSessionTakenOver            Reason = 0x8E
	ReasonTopicFilterInvalid          Reason = 0x8F
	ReasonTopicNameInvalid            Reason = 0x90
	ReasonPacketIDInUse               Reason = 0x91
	ReasonPacketIDNotFound            Reason = 0x92
	ReasonReceiveMaximumExceeded      Reason = 0x93
	ReasonTopicAliasInvalid           Reason = 0x94
	ReasonPacketTooLarge              Reason = 0x95
	ReasonMessageRateTooHigh          Reason = 0x96
	ReasonQuotaExceeded               Reason = 0x97
	ReasonAdministrativeAction        Reason = 0x98
	ReasonPayloadFormatInvalid        Reason = 0x99
	ReasonRetainNotSupported          Reason = 0x9A
	ReasonQoSNotSupported             Reason = 0x9B
	ReasonUseAnotherServer            Reason = 0x9C
	ReasonServerMoved                 Reason = 0x9D
	ReasonSharedNotSupported          Reason = 0x9E
	ReasonConnectionRateExceeded      Reason = 0x9F
	ReasonMaximumConnectTime          Reason = 0xA0
	ReasonSubscriptionIDsNotSupported Reason = 0xA1
	ReasonWildcardNotSupported        Reason = 0xA2
)

// Failed says whether r tells of a refusal or failure: 0x80 and above.
func (r Reason) Failed() bool { return r >= 0x80 }

// String returns the code in hexadecimal and its name in the specification.
func (r Reason) String() string {
	low := []string{
		0x00: "success", 0x01: "granted QoS 1", 0x02: "granted QoS 2", 0x04: "disconnect with will message",
		0x10: "no matching subscribers", 0x11: "no subscription existed", 0x18: "continue authentication",
		0x19: "re-authenticate",
	}
	high := []string{
		"unspecified error", "malformed packet", "protocol error", "implementation specific error",
		"unsupported protocol version", "client identifier not valid", "bad user name or password", "not authorized",
		"server unavailable", "server busy", "banned", "server shutting down", "bad authentication method",
		"keep alive timeout", "session taken over", "topic filter invalid", "topic name invalid",
		"packet identifier in use", "packet identifier not found", "receive maximum exceeded", "topic alias invalid",
		"packet too large", "message rate too high", "quota exceeded", "administrative action",
		"payload format invalid", "retain not supported", "QoS not supported", "use another server", "server moved",
		"shared subscriptions not supported", "connection rate exceeded", "maximum connect time",
		"subscription identifiers not supported", "wildcard subscriptions not supported",
	}
	names, i := low, int(r)
	if r.Failed() {
		names, i = high, i-0x80
	}
	if i >= len(names) || names[i] == "" {
		return fmt.Sprintf("0x%02x unknown reason", uint8(r))
	}
	return fmt.Sprintf("0x%02x %s", uint8(r), names[i])
}

// connackCode returns the return code of an MQTT 3.1.1 CONNACK (3.1.1, 3.2.2.3) that comes closest to r.
func (r Reason) connackCode() byte {
	switch r {
	case ReasonSuccess:
		return 0
	case ReasonUnsupportedVersion:
		return 1
	case ReasonClientIDNotValid:
		return 2
	case ReasonBadUserNameOrPassword:
		return 4
	case ReasonNotAuthorized, ReasonBanned, ReasonBadAuthenticationMethod:
		return 5
	default:
		return 3
	}
}

// connackReason is the inverse of connackCode; ok is false for a code that MQTT 3.1.1 does not have.
func connackReason(code byte) (r Reason, ok bool) {
	reasons := [...]Reason{
		ReasonSuccess, ReasonUnsupportedVersion, ReasonClientIDNotValid, ReasonServerUnavailable,
		ReasonBadUserNameOrPassword, ReasonNotAuthorized,
	}
	if int(code) >= len(reasons) {
		return 0, false
	}
	return reasons[code], true
}

// allowedIn says whether a packet of type t may carry r (MQTT 5, table 2-6). The table does not say which side may send it,
// and neither does this.
func (r Reason) allowedIn(t Type) bool {
	switch t {
	case TypeConnack:
		return r == ReasonSuccess || r >= 0x80 && r <= 0x8A ||
			slices.Contains([]Reason{0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F}, r)
	case TypePuback, TypePubrec:
		return slices.Contains([]Reason{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}, r)
	case TypePubrel, TypePubcomp:
		return r == ReasonSuccess || r == ReasonPacketIDNotFound
	case TypeSuback:
		return r <= ReasonGrantedQoS2 || slices.Contains([]Reason{0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}, r)
	case TypeUnsuback:
		return slices.Contains([]Reason{0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}, r)
	case TypeDisconnect:
		return slices.Contains([]Reason{0x00, 0x04, 0x87, 0x89}, r) || r >= 0x80 && r <= 0x83 ||
			r >= 0x8B && r <= 0xA2 && r != 0x8C && r != 0x91 && r != 0x92
	case TypeAuth:
		return r == ReasonSuccess || r == ReasonContinueAuthentication || r == ReasonReauthenticate
	default:
		return false
	}
}
